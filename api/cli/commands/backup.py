"""`flow-nexus backup`: the database, the exported models and the secret key, in one file."""

from pathlib import Path
from typing import Annotated

import typer

from api.cli.backup.archive import Manifest, Writer, created
from api.cli.backup.target import SECRET, Target, from_environment
from api.cli.errors import CliError, UsageError
from api.cli.output.printing import note
from api.store.schema import newest_revision
from api.store.snapshot import Snapshot, SnapshotError, StoredModel, taken


def backup(
    file: Annotated[Path, typer.Argument(help="The new file, a tar.")],
    secret_key: Annotated[bool, typer.Option(help="Put the secret key into the file.")] = True,
) -> None:
    """Save the database, the exported models and the secret key, while the service runs.

    The data in sandboxes is not saved: shards, checkpoints and what executions wrote.
    The command needs FLOW_NEXUS_DATABASE_URL, FLOW_NEXUS_MODELS_DIR and FLOW_NEXUS_SECRET_KEY.
    """
    with from_environment() as target:
        if secret_key and not target.secret_key:
            raise UsageError(f"set {SECRET}, or leave it out with --no-secret-key")
        try:
            with created(file) as writer, taken(target.engine) as snapshot:
                manifest = _write(writer, snapshot, target, with_key=secret_key)
        except SnapshotError as error:
            raise CliError(str(error)) from None
    rows = sum(table.rows for table in manifest.tables)
    models = sum(name.startswith("models/") for name in manifest.files)
    key = "the secret key" if secret_key else "no secret key"
    print(f"{file}: {rows:,} rows of {len(manifest.tables)} tables, {models} models, {key}; {file.stat().st_size / 1e6:.1f} MB")
    if manifest.missing_models:
        note(f"note: these models have no file: {', '.join(manifest.missing_models)}")
    if secret_key:
        note(f"note: {file} holds the secret key and is not encrypted; keep it where only operators can read it")


def _write(writer: Writer, snapshot: Snapshot, target: Target, *, with_key: bool) -> Manifest:
    for table in snapshot.tables:
        writer.add_table(table.name, table.columns, snapshot.rows(table))
    missing = [model.model_id for model in snapshot.models if not _add_model(writer, model, target.models)]
    if with_key and target.secret_key:
        writer.add_secret_key(target.secret_key)
    return writer.finish(str(newest_revision()), missing)


def _add_model(writer: Writer, model: StoredModel, folder: Path) -> bool:
    """Add a model. Return False if its file is gone, because its time was over meanwhile."""
    try:
        sha256 = writer.add_model(model.model_id, folder / f"{model.model_id}.tar")
    except FileNotFoundError:
        return False
    if sha256 != model.sha256:
        raise CliError(f"the file of model {model.model_id} is damaged: its SHA-256 is not that of its row")
    return True

"""`flow-nexus restore`: a deployment from a backup, on an empty machine."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from api.cli.backup.archive import Reader, opened
from api.cli.backup.target import SECRET, Target, connected, from_environment
from api.cli.errors import CliError, UsageError
from api.cli.output.printing import note
from api.embedded.database_only import running_database
from api.embedded.state_folder import StateFolder
from api.store import snapshot
from api.store.migration import MigrationError
from api.store.schema import is_known, newest_revision
from api.store.snapshot import SnapshotError, TableShape


def restore(
    file: Annotated[Path, typer.Argument(help="The file that `flow-nexus backup` made.")],
    home: Annotated[
        Path | None, typer.Option(help="The folder of an embedded stack. Default: the database of the environment.")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Delete what the database holds.")] = False,
    secret_key_to: Annotated[
        Path | None, typer.Option(help="A new file for the secret key of the backup.", show_default=False)
    ] = None,
) -> None:
    """Restore the database, the models and the secret key, while no service runs.

    The whole file is checked first. A database with rows is refused without --replace.
    Sandboxes are not restored: deploy the nodes again, and upload their data again.
    """
    with opened(file) as reader:
        revision = reader.manifest.revision
        if not is_known(revision):
            raise CliError(f"it is of revision {revision}, which this release does not know; install the newer release")
        reader.verify()
        _check_key(reader, home, secret_key_to)
        with _embedded(home) if home else from_environment() as target:
            _check_empty(target, replace=replace)
            _load(reader, target)
            _place_key(reader, home, secret_key_to)
        rows = sum(table.rows for table in reader.manifest.tables)
        print(f"restored {rows:,} rows and {len(reader.models())} models of {reader.manifest.created_at:%Y-%m-%d %H:%M} UTC")
        if revision != newest_revision():
            print(f"the database went from {revision} to {newest_revision()}")


@contextmanager
def _embedded(home: Path) -> Iterator[Target]:
    folder = StateFolder(home)
    with running_database(folder) as url, connected(url) as engine:
        yield Target(engine, folder.subfolder("models"))


def _check_key(reader: Reader, home: Path | None, secret_key_to: Path | None) -> None:
    """Refuse to restore rows that the service could not use with its key."""
    key = reader.secret_key()
    if key is None and (home or secret_key_to):
        raise UsageError("the backup has no secret key")
    if secret_key_to is not None and secret_key_to.exists():
        raise UsageError(f"{secret_key_to} exists already")
    if key is not None and not (home or secret_key_to) and os.environ.get(SECRET) != key:
        raise UsageError(
            f"{SECRET} is not that of the backup, so no API key would be valid; write the backup's with --secret-key-to FILE"
        )


def _check_empty(target: Target, *, replace: bool) -> None:
    if others := snapshot.users(target.engine):
        raise CliError(f"{others} connections use the database; stop the service first")
    rows = snapshot.rows_in(target.engine)
    if rows and not replace:
        raise UsageError(f"the database has {rows:,} rows; --replace deletes them")


def _load(reader: Reader, target: Target) -> None:
    tables = [TableShape(table.name, tuple(table.columns)) for table in reader.manifest.tables]
    try:
        snapshot.load(target.engine, reader.manifest.revision, tables, lambda table: reader.rows(table.name))
        target.models.mkdir(parents=True, exist_ok=True)
        for name in reader.models():
            reader.extract(name, target.models)
    except (SnapshotError, MigrationError) as error:
        raise CliError(str(error)) from None
    except OSError as error:
        raise CliError(f"{target.models} cannot be written: {error.strerror}") from None


def _place_key(reader: Reader, home: Path | None, secret_key_to: Path | None) -> None:
    key = reader.secret_key()
    if home is not None and key is not None:
        StateFolder(home).make_secrets(key)
    if secret_key_to is not None and key is not None:
        with os.fdopen(os.open(secret_key_to, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(f"{key}\n")
        note(f"note: set {SECRET} to the content of {secret_key_to}")

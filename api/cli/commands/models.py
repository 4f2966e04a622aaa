"""`flow-nexus neural export` and `flow-nexus neural models`."""

from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Annotated

import typer

from api.cli.errors import FAILURE, CliError
from api.cli.http.client import api_path
from api.cli.http.download import save, size_of
from api.cli.ids import id_option
from api.cli.output import views
from api.cli.parameters import Limit, TrainingId, Wait
from api.cli.responses import ModelJson
from api.cli.session import Session, failed, group, with_session

app = group("Exported models: list, download.")

_EXPORT_WAIT_S = 120
ModelId = Annotated[str, id_option("--model-id", "model", "mdl_4k2j9x")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a folder that exists already.")]


@with_session
def export(
    session: Session,
    training_id: TrainingId,
    name: Annotated[str, typer.Option(help="The name of the model: sentiment_model_v1.0")],
    wait: Wait = _EXPORT_WAIT_S,
) -> None:
    """Export the model of a training, and wait until it can be downloaded."""
    with session.busy("exporting the model"):
        model = session.client.post_and_poll(
            api_path("trainings", training_id, "exports"),
            ModelJson,
            {"name": name},
            wait=wait,
            pending="pending",
            location=lambda model: api_path("models", model.model_id),
        )
    session.show(model, views.model)
    if failed(model.status):
        raise typer.Exit(FAILURE)


@app.command("list")
@with_session
def list_models(session: Session, limit: Limit = None) -> None:
    """List exported models."""
    session.show(session.client.items(api_path("models"), ModelJson, limit=limit), views.models)


@app.command("cancel")
@with_session
def cancel(session: Session, model_id: ModelId) -> None:
    """Cancel a pending export."""
    session.show(session.client.post(api_path("models", model_id, "cancel"), ModelJson), views.model)


@app.command("download")
@with_session
def download(
    session: Session,
    model_id: ModelId,
    local_path: Annotated[Path | None, typer.Option(help="The folder to create. Default: the name of the model.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Download an exported model into a folder."""
    path = api_path("models", model_id)
    name = PurePosixPath(session.client.get(path, ModelJson).value.name or "").name
    if name in ("", ".."):
        raise CliError("the model has no usable name")
    with session.client.download(f"{path}/download") as response, session.progress(name, size_of(response)) as on_progress:
        saved = save(response, name, local_path or Path(name), folder=True, overwrite=overwrite, on_progress=on_progress)
    session.show_local({"model_id": model_id, **asdict(saved)}, lambda: views.transferred(saved.local_path, saved.size))

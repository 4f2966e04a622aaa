"""`flow-nexus neural train`."""

from typing import Annotated

import typer

from api.cli.errors import FAILURE
from api.cli.http.client import api_path
from api.cli.output import views, watch
from api.cli.parameters import ClusterId, Limit, TrainingId, Wait
from api.cli.responses import RoundJson, TrainingJson
from api.cli.session import Session, failed, given, group, with_session
from api.cli.training_options import with_training_options

app = group("Start, follow, stop and resume trainings.")

_START_WAIT_S = 30


@app.command("distributed")
@with_session
@with_training_options()
def distributed(session: Session, cluster_id: ClusterId, options: dict[str, object], wait: Wait = _START_WAIT_S) -> None:
    """Start a training on all workers of a cluster, and wait for its first round."""
    _start(session, api_path("clusters", cluster_id, "trainings"), options, wait)


@app.command("list")
@with_session
def list_trainings(
    session: Session,
    cluster_id: Annotated[str | None, typer.Option(help="Only trainings of this cluster.", metavar="ID")] = None,
    limit: Limit = None,
) -> None:
    """List trainings."""
    session.show(
        session.client.items(api_path("trainings"), TrainingJson, given(cluster_id=cluster_id), limit), views.trainings
    )


@app.command("status")
@with_session
def show_status(session: Session, training_id: TrainingId) -> None:
    """Show one training."""
    session.show(session.client.get(api_path("trainings", training_id), TrainingJson), views.training)


@app.command("rounds")
@with_session
def rounds(session: Session, training_id: TrainingId, limit: Limit = None) -> None:
    """List a training's rounds with their metrics."""
    session.show(session.client.items(api_path("trainings", training_id, "rounds"), RoundJson, limit=limit), views.rounds)


@app.command("stop")
@with_session
def stop(session: Session, training_id: TrainingId) -> None:
    """Stop a training. Its last model stays available."""
    session.show(session.client.post(api_path("trainings", training_id, "stop"), TrainingJson), views.training)


@app.command("resume")
@with_session
def resume(
    session: Session,
    training_id: TrainingId,
    epochs: Annotated[
        int | None, typer.Option(help="Train so many more epochs. This also extends a completed training.", min=1)
    ] = None,
    wait: Wait = _START_WAIT_S,
) -> None:
    """Continue a stopped or failed training from its last model, or extend one."""
    _start(session, api_path("trainings", training_id, "resume"), None if epochs is None else {"epochs": epochs}, wait)


@app.command("watch")
@with_session
def follow(session: Session, training_id: TrainingId) -> None:
    """Follow a training until it has ended. In a pipe it prints one event per line."""
    if failed(watch.watch_training(session, training_id).status):
        raise typer.Exit(FAILURE)


def _start(session: Session, path: str, body: dict[str, object] | None, wait: int) -> None:
    with session.busy("checking the workers' data"):
        training = session.client.post_and_poll(
            path,
            TrainingJson,
            body,
            wait=wait,
            pending="pending",
            location=lambda training: api_path("trainings", training.training_id),
        )
    session.show(training, views.training)
    if failed(training.status):
        raise typer.Exit(FAILURE)

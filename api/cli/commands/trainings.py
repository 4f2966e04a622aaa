"""`flow-nexus neural train`."""

from typing import Annotated

import typer

from api.cli.commands.clusters import ClusterId, Flag, Limit, Wait
from api.cli.errors import FAILURE
from api.cli.http.client import api_path
from api.cli.output import views, watch
from api.cli.responses import Round, Training
from api.cli.session import Session, failed, given, group, truth, with_session

app = group("Trainings: start, follow, stop, resume.")

TrainingId = Annotated[str, typer.Option("--training-id", help="train_…", metavar="ID")]
_START_WAIT_S = 30


@app.command("distributed")
@with_session
def distributed(
    session: Session,
    cluster_id: ClusterId,
    dataset: Annotated[str, typer.Option(help="Path or pattern in each worker's sandbox: '/data/train_*.json'")],
    epochs: Annotated[int | None, typer.Option()] = None,
    batch_size: Annotated[int | None, typer.Option()] = None,
    learning_rate: Annotated[float | None, typer.Option()] = None,
    optimizer: Annotated[str | None, typer.Option(metavar="adam|adamw|sgd|rmsprop|adagrad")] = None,
    federated: Annotated[Flag | None, typer.Option(help="false: one pooled data set in the aggregator's sandbox.")] = None,
    local_epochs: Annotated[int | None, typer.Option(help="Epochs per round.")] = None,
    seed: Annotated[int | None, typer.Option()] = None,
    strategy: Annotated[str | None, typer.Option(help="How updates become a model: fedavg, fedadam, median, krum, …")] = None,
    server_learning_rate: Annotated[
        float | None, typer.Option(help="Of fedavgm, fedadam, fedyogi, fedadagrad, diloco.")
    ] = None,
    server_momentum: Annotated[float | None, typer.Option(help="Of fedavgm and diloco.")] = None,
    proximal_mu: Annotated[float | None, typer.Option(help="Of fedprox.")] = None,
    trim_fraction: Annotated[float | None, typer.Option(help="Of trimmed_mean.")] = None,
    byzantine_count: Annotated[int | None, typer.Option(help="Of krum, multi_krum and bulyan.")] = None,
    fraction: Annotated[float | None, typer.Option(help="Share of the workers drawn for each round.")] = None,
    min_workers: Annotated[int | None, typer.Option(help="Fewest workers of a round.")] = None,
    round_deadline: Annotated[float | None, typer.Option(help="Seconds until a round goes on without the late.")] = None,
    quorum: Annotated[float | None, typer.Option(help="Share of a round's updates that make it.")] = None,
    compression: Annotated[str | None, typer.Option(metavar="fp16|int8|topk|lora|topk+int8|…")] = None,
    gradient_compression: Annotated[Flag | None, typer.Option(help="true: topk.")] = None,
    compression_ratio: Annotated[float | None, typer.Option(help="topk: share of values sent.")] = None,
    lora_rank: Annotated[int | None, typer.Option(help="lora: rank of the adapters.")] = None,
    hold_out: Annotated[Flag | None, typer.Option(help="false: nothing is kept to measure on.")] = None,
    mixed_precision: Annotated[Flag | None, typer.Option(help="bf16 where a node has it.")] = None,
    freeze_layers: Annotated[int | None, typer.Option(help="Encoder layers that stay as they are.")] = None,
    secure_aggregation: Annotated[Flag | None, typer.Option(help="The aggregator sees the updates' sum alone.")] = None,
    target_epsilon: Annotated[float | None, typer.Option(help="Differential privacy: epsilon of the whole training.")] = None,
    noise_multiplier: Annotated[float | None, typer.Option(help="Differential privacy: the noise itself.")] = None,
    max_grad_norm: Annotated[float | None, typer.Option(help="Differential privacy: each record's gradient.")] = None,
    delta: Annotated[float | None, typer.Option(help="Differential privacy.")] = None,
    target_accuracy: Annotated[float | None, typer.Option(help="Stop there, 0 to 1.")] = None,
    patience: Annotated[int | None, typer.Option(help="Stop after so many rounds without progress.")] = None,
    budget_usd: Annotated[float | None, typer.Option(help="Stop at this cost.")] = None,
    max_minutes: Annotated[float | None, typer.Option(help="Stop after this time.")] = None,
    wait: Wait = _START_WAIT_S,
) -> None:
    """Start a training on all workers of a cluster, and wait until it trains."""
    private = given(target_epsilon=target_epsilon, noise_multiplier=noise_multiplier, max_grad_norm=max_grad_norm, delta=delta)
    body = given(
        dataset=dataset,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        optimizer=optimizer,
        federated=truth(federated),
        local_epochs=local_epochs,
        seed=seed,
        strategy=strategy,
        server_learning_rate=server_learning_rate,
        server_momentum=server_momentum,
        proximal_mu=proximal_mu,
        trim_fraction=trim_fraction,
        byzantine_count=byzantine_count,
        fraction=fraction,
        min_workers=min_workers,
        round_deadline_s=round_deadline,
        quorum=quorum,
        compression=compression,
        gradient_compression=truth(gradient_compression),
        compression_ratio=compression_ratio,
        lora_rank=lora_rank,
        hold_out=truth(hold_out),
        mixed_precision=truth(mixed_precision),
        freeze_layers=freeze_layers,
        secure_aggregation=truth(secure_aggregation),
        differential_privacy=private or None,
        target_accuracy=target_accuracy,
        patience=patience,
        budget_usd=budget_usd,
        max_minutes=max_minutes,
    )
    _start(session, api_path("clusters", cluster_id, "trainings"), body, wait)


@app.command("list")
@with_session
def list_trainings(
    session: Session,
    cluster_id: Annotated[str | None, typer.Option(help="Only this cluster's.", metavar="ID")] = None,
    limit: Limit = None,
) -> None:
    """List trainings."""
    session.show(session.client.items(api_path("trainings"), Training, given(cluster_id=cluster_id), limit), views.trainings)


@app.command("status")
@with_session
def show_status(session: Session, training_id: TrainingId) -> None:
    """Show one training."""
    session.show(session.client.get(api_path("trainings", training_id), Training), views.training)


@app.command("rounds")
@with_session
def rounds(session: Session, training_id: TrainingId, limit: Limit = None) -> None:
    """List a training's rounds with their metrics."""
    session.show(session.client.items(api_path("trainings", training_id, "rounds"), Round, limit=limit), views.rounds)


@app.command("stop")
@with_session
def stop(session: Session, training_id: TrainingId) -> None:
    """Stop a training; its last model stays."""
    session.show(session.client.post(api_path("trainings", training_id, "stop"), Training), views.training)


@app.command("resume")
@with_session
def resume(session: Session, training_id: TrainingId, wait: Wait = _START_WAIT_S) -> None:
    """Go on with a stopped or failed training from its last model."""
    _start(session, api_path("trainings", training_id, "resume"), None, wait)


@app.command("watch")
@with_session
def follow(session: Session, training_id: TrainingId) -> None:
    """Follow a training until it has ended; on a pipe, one event a line."""
    if failed(watch.watch_training(session, training_id).status):
        raise typer.Exit(FAILURE)


def _start(session: Session, path: str, body: dict[str, object] | None, wait: int) -> None:
    with session.busy("checking the workers' data"):
        training = session.client.post_and_poll(
            path,
            Training,
            body,
            wait=wait,
            pending="pending",
            location=lambda training: api_path("trainings", training.training_id),
        )
    session.show(training, views.training)
    if failed(training.status):
        raise typer.Exit(FAILURE)

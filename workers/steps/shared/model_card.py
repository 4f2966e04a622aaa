"""Facts for a model card: settings and measured figures, never data."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.services import progress as figures
from api.store.tables import ClusterRow, RoundNodeRow, RoundRow, TrainingRow
from workers.agent.protocol.consensus import Vote
from workers.steps.shared import round_metrics


def card(
    session: Session, training: TrainingRow, cluster: ClusterRow, digest: str
) -> tuple[dict[str, object], list[dict[str, object]]]:
    """Return the training's facts, and the figures of each round up to the one that made
    `digest`.
    """
    rounds = round_metrics.until(session, training.id, digest)
    workers = session.scalars(
        select(RoundNodeRow)
        .where(RoundNodeRow.training_id == training.id, RoundNodeRow.number.in_([row.number for row in rounds]))
        .order_by(RoundNodeRow.number, RoundNodeRow.node_id)
    ).all()
    record = [_round(row, [worker for worker in workers if worker.number == row.number]) for row in rounds]
    return _facts(session, training, cluster, rounds, workers), record


def _facts(
    session: Session,
    training: TrainingRow,
    cluster: ClusterRow,
    rounds: Sequence[RoundRow],
    workers: Sequence[RoundNodeRow],
) -> dict[str, object]:
    last = rounds[-1] if rounds else None
    now = session.execute(select(func.clock_timestamp())).scalar_one()
    samples = {row.node_id: row.samples for row in workers if row.samples is not None}
    votes = [Vote.model_validate(vote) for row in rounds for vote in row.votes]
    states = Counter(row.state for row in workers)
    return {
        "training_id": training.id,
        "cluster": cluster.name,
        "topology": cluster.topology,
        "architecture": cluster.config.architecture,
        "model": training.model,
        "federated": training.config.federated,
        "parameters": training.parameters,
        "labels": training.labels,
        "initial_model": _initial_model(training),
        "training_samples": sum(samples.values()) if samples else None,
        "samples_per_worker": samples,
        "rounds": len(rounds),
        "epochs": training.config.epochs_after(len(rounds)),
        "strategy": training.config.strategy,
        "optimizer": training.config.optimizer,
        "learning_rate": training.config.learning_rate,
        "batch_size": training.config.batch_size,
        "consensus": cluster.config.consensus,
        "secure_aggregation": training.config.secure_aggregation,
        "differential_privacy": _privacy(training),
        "votes": len(votes),
        "votes_against": sum(not vote.accept for vote in votes),
        "updates_accepted": states["done"],
        "updates_rejected": states["rejected"],
        "global_loss": last.global_loss if last else None,
        "global_accuracy": last.global_accuracy if last else None,
        "validation_loss": last.validation_loss if last else None,
        "validation_accuracy": last.validation_accuracy if last else None,
        "validation_samples": last.validation_samples if last else None,
        "validation_source": last.validation_source if last else None,
        "seconds": figures.elapsed_seconds(training, now),
        "cost_usd": float(figures.training_cost(session, training, now)),
    }


def _initial_model(training: TrainingRow) -> dict[str, str]:
    """What the training began from. Empty for random or pretrained weights."""
    initial = training.initial_model
    return {} if initial is None else {"source": initial.source, "digest": initial.digest}


def _privacy(training: TrainingRow) -> dict[str, float]:
    """What the training has spent. Empty without differential privacy."""
    if training.privacy is None:
        return {}
    return {"epsilon": training.privacy.spent_epsilon, "delta": training.privacy.delta}


def _round(row: RoundRow, workers: Sequence[RoundNodeRow]) -> dict[str, Any]:
    states = Counter(worker.state for worker in workers)
    return {
        "round": row.number,
        "accepted": states["done"],
        "rejected": states["rejected"],
        "late_or_lost": states["late"] + states["lost"] + states["failed"],
        "votes": len(row.votes),
        "votes_against": sum(not Vote.model_validate(vote).accept for vote in row.votes),
        "global_loss": row.global_loss,
        "validation_accuracy": row.validation_accuracy,
        "seconds": None if row.seconds is None else float(row.seconds),
    }

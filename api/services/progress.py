"""What a client sees of a running cluster: every figure comes from rows that steps have measured."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session

from api.domain import cost, progress
from api.domain.status import ACTIVE_TRAINING
from api.domain.stopping import Spent
from api.services import spending
from api.services.lookup import owned
from api.store.tables import ClusterRow, NodeRow, RoundNodeRow, RoundRow, TrainingRow

MAX_SESSIONS = 50


@dataclass(frozen=True, slots=True)
class SessionView:
    """One training as status shows it. Seconds are wall-clock, without the time it lay stopped."""

    training: TrainingRow
    epoch: int
    total_epochs: int
    metrics: dict[str, float | None]
    workers: dict[str, dict[str, Any]]
    elapsed_seconds: float | None
    remaining_seconds: float | None
    cost_usd: Decimal
    cost_per_epoch_usd: Decimal | None
    cost_per_accuracy_point_usd: Decimal | None


@dataclass(frozen=True, slots=True)
class ClusterStatusView:
    cluster: ClusterRow
    sessions: Sequence[SessionView]
    nodes: Sequence[NodeRow]
    cost_usd: Decimal


def cluster_status(session: Session, project_id: str, cluster_id: str) -> ClusterStatusView:
    """The cluster, its nodes and its trainings, newest first."""
    cluster = owned(session, ClusterRow, project_id, cluster_id)
    now = session.execute(select(func.clock_timestamp())).scalar_one()
    nodes = session.scalars(
        select(NodeRow).where(NodeRow.cluster_id == cluster.id).order_by(NodeRow.created_at, NodeRow.id)
    ).all()
    trainings = session.scalars(
        select(TrainingRow)
        .where(TrainingRow.cluster_id == cluster.id)
        .order_by(TrainingRow.created_at.desc(), TrainingRow.id.desc())
        .limit(MAX_SESSIONS)
    ).all()
    sessions = [session_view(session, row, nodes, now) for row in trainings]
    return ClusterStatusView(cluster, sessions, nodes, spending.total(nodes, now))


def training_view(session: Session, training: TrainingRow) -> SessionView:
    now = session.execute(select(func.clock_timestamp())).scalar_one()
    nodes = session.scalars(select(NodeRow).where(NodeRow.cluster_id == training.cluster_id)).all()
    return session_view(session, training, nodes, now)


def session_view(session: Session, training: TrainingRow, nodes: Sequence[NodeRow], now: datetime) -> SessionView:
    rounds = session.scalars(
        select(RoundRow).where(RoundRow.training_id == training.id, RoundRow.status == "completed").order_by(RoundRow.number)
    ).all()
    spec = training.config
    epoch = spec.epochs_after(len(rounds))
    last = rounds[-1] if rounds else None
    metrics = {
        "global_loss": last.global_loss if last else None,
        "global_accuracy": last.global_accuracy if last else None,
        "validation_accuracy": last.validation_accuracy if last else None,
        "convergence_rate": progress.convergence_rate([row.global_loss for row in rounds if row.global_loss is not None]),
    }
    spent = _training_cost(training, nodes, now)
    left = spec.total_rounds - len(rounds)
    remaining = None
    if training.status in ACTIVE_TRAINING:
        remaining = progress.remaining_seconds([row.seconds for row in rounds if row.seconds is not None], left)
    elif training.status == "completed":
        remaining = 0.0
    return SessionView(
        training=training,
        epoch=epoch,
        total_epochs=spec.epochs,
        metrics=metrics,
        workers=_workers(session, training),
        elapsed_seconds=_elapsed(training, now),
        remaining_seconds=remaining,
        cost_usd=spent,
        cost_per_epoch_usd=cost.per_epoch(spent, epoch),
        cost_per_accuracy_point_usd=cost.per_accuracy_point(spent, metrics["validation_accuracy"]),
    )


def spent(session: Session, training: TrainingRow) -> Spent:
    """What a running training has used until now, and what a further second of its sandboxes costs."""
    now = session.execute(select(func.clock_timestamp())).scalar_one()
    nodes = session.scalars(
        select(NodeRow).where(NodeRow.id.in_([*training.workers, training.aggregator_id, *training.former_aggregators]))
    ).all()
    per_minute = sum((node.price_per_minute for node in nodes if node.ended_at is None), Decimal(0))
    return Spent(_elapsed(training, now) or 0.0, _training_cost(training, nodes, now), per_minute / 60)


def _elapsed(training: TrainingRow, now: datetime) -> float | None:
    if training.started_at is None:
        return None
    return ((training.finished_at or now) - training.started_at).total_seconds() - training.paused_seconds


def _training_cost(training: TrainingRow, nodes: Sequence[NodeRow], now: datetime) -> Decimal:
    """What this training's sandboxes cost between its start and its end."""
    if training.started_at is None:
        return Decimal(0)
    members = {*training.workers, training.aggregator_id, *training.former_aggregators}
    own = [node for node in nodes if node.id in members]
    return spending.within(own, training.started_at, training.finished_at or now)


def _workers(session: Session, training: TrainingRow) -> dict[str, dict[str, Any]]:
    """Each worker's newest figures; a worker that has not finished a round yet has nulls."""
    newest = (
        select(RoundNodeRow)
        .where(RoundNodeRow.training_id == training.id)
        .ext(distinct_on(RoundNodeRow.node_id))
        .order_by(RoundNodeRow.node_id, RoundNodeRow.number.desc())
    )
    states = {row.node_id: row for row in session.scalars(newest)}
    measured = {row.node_id: row for row in session.scalars(newest.where(RoundNodeRow.local_loss.is_not(None)))}
    result: dict[str, dict[str, Any]] = {}
    for node_id in training.workers:
        figures, state = measured.get(node_id), states.get(node_id)
        result[node_id] = {
            "local_loss": figures.local_loss if figures else None,
            "local_accuracy": figures.local_accuracy if figures else None,
            "samples": figures.samples if figures else state.samples if state else None,
            "state": state.state if state else None,
            "reason": state.reason if state else None,
        }
    return result

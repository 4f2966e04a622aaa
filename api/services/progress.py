"""The status of a cluster and its trainings. All values come from rows that steps have written."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

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
class WorkerView:
    """A worker's newest metrics, and its state in the newest round. None: not known yet."""

    local_loss: float | None
    local_accuracy: float | None
    samples: int | None
    state: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class SessionView:
    """One training as the status shows it.

    Seconds are wall-clock time without the time in which the training was stopped.
    """

    training: TrainingRow
    epoch: int
    total_epochs: int
    metrics: dict[str, float | None]
    workers: dict[str, WorkerView]
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
    """Return the cluster, its nodes, and its trainings with the newest first."""
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
    rounds_left = spec.total_rounds - len(rounds)
    remaining = None
    if training.status in ACTIVE_TRAINING:
        remaining = progress.remaining_seconds([row.seconds for row in rounds if row.seconds is not None], rounds_left)
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
    """Return what a running training has used, and what each further second of it costs."""
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
    """Return the cost of the training's sandboxes between its start and its end."""
    if training.started_at is None:
        return Decimal(0)
    node_ids = {*training.workers, training.aggregator_id, *training.former_aggregators}
    until = training.finished_at or now
    return sum((spending.within([node], _since(training, node), until) for node in nodes if node.id in node_ids), Decimal(0))


def _since(training: TrainingRow, node: NodeRow) -> datetime:
    """Return when a node began to work for a training that has started."""
    joiner = training.joiners.get(node.id)
    moments = (training.started_at, None if joiner is None else joiner.joined_at)
    return max(moment for moment in moments if moment is not None)


def _workers(session: Session, training: TrainingRow) -> dict[str, WorkerView]:
    """Return each worker's newest metrics. A worker without a finished round has None."""
    newest = (
        select(RoundNodeRow)
        .where(RoundNodeRow.training_id == training.id)
        .ext(distinct_on(RoundNodeRow.node_id))
        .order_by(RoundNodeRow.node_id, RoundNodeRow.number.desc())
    )
    states = {row.node_id: row for row in session.scalars(newest)}
    measured = {row.node_id: row for row in session.scalars(newest.where(RoundNodeRow.local_loss.is_not(None)))}
    return {node_id: _worker(measured.get(node_id), states.get(node_id)) for node_id in training.workers}


def _worker(measured: RoundNodeRow | None, newest: RoundNodeRow | None) -> WorkerView:
    return WorkerView(
        local_loss=measured.local_loss if measured else None,
        local_accuracy=measured.local_accuracy if measured else None,
        samples=measured.samples if measured else newest.samples if newest else None,
        state=newest.state if newest else None,
        reason=newest.reason if newest else None,
    )

"""The status of a cluster and its trainings. All values come from rows that steps have written.

The status reads no round. A step that changes a round keeps what the status shows in the row of the
training. So the status costs the same, however many rounds and trainings there are.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from sqlalchemy import Integer, func, or_, select, type_coerce
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session, undefer

from api.domain import cost, progress
from api.domain.errors import NotFoundError
from api.domain.records import FailureReason
from api.domain.status import ACTIVE_TRAINING
from api.domain.stopping import Spent, TrainingStop
from api.domain.training_progress import TrainingProgress, WorkerProgress
from api.services import spending
from api.store.documents import FormerSandbox
from api.store.tables import ClusterRow, NodeRow, RoundNodeRow, RoundRow, TrainingRow

MOST_SESSIONS = 20
# Those of a `NodeView`, in its order.
NODE_COLUMNS = (
    NodeRow.id,
    NodeRow.role,
    NodeRow.status,
    NodeRow.sandbox_id,
    NodeRow.former_sandboxes,
    NodeRow.started_at,
    NodeRow.ended_at,
    NodeRow.price_per_minute,
)


@dataclass(frozen=True, slots=True)
class NodeView:
    """A node as the status shows it, and what its cost is computed from."""

    id: str
    role: str
    status: str
    sandbox_id: str | None
    former_sandboxes: Sequence[FormerSandbox]
    started_at: datetime | None
    ended_at: datetime | None
    price_per_minute: Decimal


@dataclass(frozen=True, slots=True)
class EarlierView:
    """An earlier training, in short.

    Seconds are wall-clock time without the time in which the training was stopped. `cost_usd` is
    None while it is not known.
    """

    training_id: str
    status: str
    epoch: int
    total_epochs: int
    figures: TrainingProgress
    elapsed_seconds: float | None
    remaining_seconds: float | None
    cost_usd: Decimal | None
    stop_reason: TrainingStop | None
    error: FailureReason | None


@dataclass(frozen=True, slots=True)
class SessionView:
    """The newest or the running training, in full.

    Seconds are wall-clock time without the time in which the training was stopped.
    """

    training: TrainingRow
    epoch: int
    total_epochs: int
    figures: TrainingProgress
    workers: Mapping[str, WorkerProgress]
    elapsed_seconds: float | None
    remaining_seconds: float | None
    cost_usd: Decimal
    cost_per_epoch_usd: Decimal | None
    cost_per_accuracy_point_usd: Decimal | None


@dataclass(frozen=True, slots=True)
class ClusterStatusView:
    """The status of a cluster in one second. `lasts_s` are the seconds until the next one."""

    cluster_id: str
    status: str
    sessions: Sequence[SessionView | EarlierView]
    nodes: Sequence[NodeView]
    cost_usd: Decimal
    lasts_s: float


def cluster_status(session: Session, project_id: str, cluster_id: str) -> ClusterStatusView:
    """Return the cluster, its nodes, and its trainings with the newest first.

    The newest training and the one that runs are in full, the others in short.

    Raises:
        NotFoundError: the project has no such cluster.
    """
    cluster = session.execute(
        select(ClusterRow.status, func.clock_timestamp()).where(
            ClusterRow.id == cluster_id, ClusterRow.project_id == project_id
        )
    ).first()
    if cluster is None:
        raise NotFoundError("cluster", cluster_id)
    status, moment = cluster
    # Times and costs are those of the last whole second: within one, equal rows give equal answers.
    now = moment.replace(microsecond=0)
    nodes = _nodes(session, cluster_id)
    sessions = _sessions(session, cluster_id, nodes, now)
    lasts_s = 1 - moment.microsecond / 1_000_000
    return ClusterStatusView(cluster_id, status, sessions, nodes, spending.total(nodes, now), lasts_s)


def _nodes(session: Session, cluster_id: str) -> list[NodeView]:
    query = select(*NODE_COLUMNS).where(NodeRow.cluster_id == cluster_id).order_by(NodeRow.created_at, NodeRow.id)
    rows = session.execute(query)
    return [NodeView(*row) for row in rows]


def _sessions(session: Session, cluster_id: str, nodes: Sequence[NodeView], now: datetime) -> list[SessionView | EarlierView]:
    config = type_coerce(TrainingRow.config, JSONB)
    query = select(
        TrainingRow.id,
        TrainingRow.status,
        config["epochs"].astext.cast(Integer),
        config["local_epochs"].astext.cast(Integer),
        config["extended_after"],
        TrainingRow.completed_rounds,
        TrainingRow.progress,
        TrainingRow.started_at,
        TrainingRow.finished_at,
        TrainingRow.paused_seconds,
        TrainingRow.cost_usd,
        TrainingRow.stop_reason,
        TrainingRow.error,
    )
    newest_first = (TrainingRow.created_at.desc(), TrainingRow.id.desc())
    rows = session.execute(query.where(TrainingRow.cluster_id == cluster_id).order_by(*newest_first).limit(MOST_SESSIONS)).all()
    if not rows:
        return []
    shown_in_full = or_(TrainingRow.id == rows[0][0], TrainingRow.status.in_(ACTIVE_TRAINING))
    full = {
        row.id: session_view(row, nodes, now)
        for row in session.scalars(
            select(TrainingRow)
            .where(TrainingRow.cluster_id == cluster_id, shown_in_full)
            .options(undefer(TrainingRow.worker_progress))
        )
    }
    listed = [full.pop(row[0]) if row[0] in full else _earlier(row, now) for row in rows]
    # A resumed training may be older than those.
    return [*listed, *full.values()]


_EarlierColumns = tuple[
    str,
    str,
    int,
    int,
    list[int] | None,
    int,
    TrainingProgress,
    datetime | None,
    datetime | None,
    float,
    Decimal | None,
    TrainingStop | None,
    FailureReason | None,
]


def _earlier(columns: _EarlierColumns, now: datetime) -> EarlierView:
    training_id, status, epochs, local_epochs, extended, rounds, figures = columns[:7]
    started_at, finished_at, paused_s, usd, why, error = columns[7:]
    stages = progress.stages(epochs, extended or ())
    return EarlierView(
        training_id=training_id,
        status=status,
        epoch=progress.epochs_after(rounds, stages, local_epochs),
        total_epochs=epochs,
        figures=figures,
        elapsed_seconds=_seconds(started_at, finished_at, paused_s, now),
        remaining_seconds=_remaining(status, figures, progress.rounds_of(stages, local_epochs) - rounds),
        cost_usd=Decimal(0) if started_at is None else usd,
        stop_reason=why,
        error=error,
    )


def session_view(training: TrainingRow, nodes: Iterable[NodeView], now: datetime) -> SessionView:
    """Return a training in full. `nodes` are those of its cluster."""
    spec = training.config
    figures = training.progress
    epoch = spec.epochs_after(training.completed_rounds)
    usd = cost_of(training, nodes, now)
    return SessionView(
        training=training,
        epoch=epoch,
        total_epochs=spec.epochs,
        figures=figures,
        workers={node_id: training.worker_progress.get(node_id) or WorkerProgress() for node_id in training.workers},
        elapsed_seconds=elapsed_seconds(training, now),
        remaining_seconds=remaining_seconds(training),
        cost_usd=usd,
        cost_per_epoch_usd=cost.per_epoch(usd, epoch),
        cost_per_accuracy_point_usd=cost.per_accuracy_point(usd, figures.validation_accuracy),
    )


def remaining_seconds(training: TrainingRow) -> float | None:
    """Return the rounds left times the mean seconds of the last five.

    None before the first round, and for a training that was stopped or failed.
    """
    return _remaining(training.status, training.progress, training.config.total_rounds - training.completed_rounds)


def _remaining(status: str, figures: TrainingProgress, rounds_left: int) -> float | None:
    if status in ACTIVE_TRAINING:
        return progress.remaining_seconds(figures.recent_seconds, rounds_left)
    return 0.0 if status == "completed" else None


def note_round(training: TrainingRow, row: RoundRow) -> None:
    """Keep the figures of a round that was just completed, for the status."""
    training.progress = training.progress.after(
        global_loss=row.global_loss,
        global_accuracy=row.global_accuracy,
        validation_accuracy=row.validation_accuracy,
        seconds=None if row.seconds is None else float(row.seconds),
    )


def note_workers(session: Session, training: TrainingRow, number: int) -> None:
    """Keep the newest state and metrics of the workers of a round, for the status."""
    session.flush()
    kept = dict(training.worker_progress)
    rows = select(
        RoundNodeRow.node_id,
        RoundNodeRow.state,
        RoundNodeRow.reason,
        RoundNodeRow.local_loss,
        RoundNodeRow.local_accuracy,
        RoundNodeRow.samples,
    ).where(RoundNodeRow.training_id == training.id, RoundNodeRow.number == number)
    for node_id, state, reason, loss, accuracy, samples in session.execute(rows):
        new: dict[str, object] = {"state": state, "reason": reason}
        if loss is not None:
            new |= {"local_loss": loss, "local_accuracy": accuracy}
        if samples is not None:
            new["samples"] = samples
        kept[node_id] = kept.get(node_id, WorkerProgress()).model_copy(update=new)
    if kept != training.worker_progress:
        training.worker_progress = kept


def training_cost(session: Session, training: TrainingRow, now: datetime) -> Decimal:
    """Return the cost of the training's sandboxes between its start and its end, or `now`."""
    return cost_of(training, _nodes(session, training.cluster_id), now)


def spent(session: Session, training: TrainingRow) -> Spent:
    """Return what a running training has used, and what each further second of it costs."""
    now = session.execute(select(func.clock_timestamp())).scalar_one()
    nodes = _nodes_of(training, _nodes(session, training.cluster_id))
    per_minute = sum((node.price_per_minute for node in nodes if node.ended_at is None), Decimal(0))
    return Spent(elapsed_seconds(training, now) or 0.0, cost_of(training, nodes, now), per_minute / 60)


def elapsed_seconds(training: TrainingRow, now: datetime) -> float | None:
    """Return the wall-clock seconds of a training, None before its start."""
    return _seconds(training.started_at, training.finished_at, training.paused_seconds, now)


def _seconds(started_at: datetime | None, finished_at: datetime | None, paused_s: float, now: datetime) -> float | None:
    if started_at is None:
        return None
    return max(0.0, ((finished_at or now) - started_at).total_seconds() - paused_s)


def cost_of(training: TrainingRow, nodes: Iterable[NodeView], now: datetime) -> Decimal:
    """Return the cost of the training's sandboxes from its start to its end, without its pauses."""
    if training.cost_usd is not None:
        return training.cost_usd
    if training.started_at is None:
        return Decimal(0)
    return _cost_between(training, nodes, training.started_at, training.finished_at or now) - training.paused_usd


def round_costs(session: Session, training: TrainingRow, rounds: Sequence[RoundRow]) -> list[Decimal]:
    """Return what the training's sandboxes cost between the start and the end of each round."""
    nodes = _nodes(session, training.cluster_id)
    return [_cost_between(training, nodes, row.started_at, row.finished_at or row.started_at) for row in rounds]


def add_pause(session: Session, training: TrainingRow) -> None:
    """Note the time since an ended training's end, and what its sandboxes cost meanwhile.

    Neither counts as a part of the training.
    """
    if training.finished_at is None or training.started_at is None:
        return
    now = session.execute(select(func.clock_timestamp())).scalar_one()
    training.paused_seconds += (now - training.finished_at).total_seconds()
    training.paused_usd += _cost_between(training, _nodes(session, training.cluster_id), training.finished_at, now)


def _cost_between(training: TrainingRow, nodes: Iterable[NodeView], since: datetime, until: datetime) -> Decimal:
    working = _nodes_of(training, nodes)
    return sum((spending.within([node], _since(training, node, since), until) for node in working), Decimal(0))


def _since(training: TrainingRow, node: NodeView, since: datetime) -> datetime:
    """Return when a node began to work for a training, but not before `since`."""
    joiner = training.joiners.get(node.id)
    joined_at = None if joiner is None else joiner.joined_at
    return since if joined_at is None else max(since, joined_at)


def _nodes_of(training: TrainingRow, nodes: Iterable[NodeView]) -> list[NodeView]:
    node_ids = {*training.workers, training.aggregator_id, *training.former_aggregators}
    return [node for node in nodes if node.id in node_ids]

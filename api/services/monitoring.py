"""Figures of the rows for metrics. The number of queries does not grow with the rows."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from statistics import fmean

from sqlalchemy import and_, func, or_, select, type_coerce
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session, aliased

from api.domain.status import ACTIVE_TRAINING
from api.services import progress, spending
from api.services.progress import NodeView
from api.store.kinds import KINDS
from api.store.tables import ClusterRow, ModelRow, NodeRow, RoundRow, TrainingRow

# Exported models have no metric.
_COUNTED = tuple(kind for kind in KINDS if kind.table is not ModelRow)


@dataclass(frozen=True, slots=True)
class ActiveTraining:
    """A training that has not ended, and its cluster. What is not measured yet is None.

    `progress_at` is the Unix time at which the open round began. Between rounds it is the end of
    the last one, and before the first one the start of the training.
    `worker_states` counts its workers by their state in the newest round.
    """

    cluster_id: str
    training_id: str
    epoch: int
    total_epochs: int
    loss: float | None
    accuracy: float | None
    validation_accuracy: float | None
    cost_usd: float
    remaining_seconds: float | None
    round_seconds: float | None
    progress_at: float | None
    workers: int
    healthy_workers: int
    worker_states: Mapping[str, int]
    cluster_cost_usd: float
    cluster_usd_per_hour: float
    budget_usd: float | None


def by_status(session: Session) -> dict[str, dict[str, int]]:
    """Return the number of rows by noun (in the plural) and status. A status without rows has 0."""
    counts = {}
    for kind in _COUNTED:
        rows = session.execute(select(kind.table.status, func.count()).group_by(kind.table.status))
        counts[kind.plural] = dict.fromkeys(kind.moves, 0) | {row[0]: row[1] for row in rows}
    return counts


def due_seconds(session: Session) -> dict[str, float]:
    """Return by noun how long the oldest due row has waited. A leased row does not wait."""
    seconds = {}
    for kind in _COUNTED:
        table, now = kind.table, func.clock_timestamp()
        is_free = or_(table.lease_until.is_(None), table.lease_until < now)
        oldest = select(func.extract("epoch", now - func.min(table.due_at))).where(table.due_at <= now, is_free)
        seconds[kind.plural] = max(0.0, float(session.scalar(oldest) or 0))
    return seconds


def active_trainings(session: Session) -> list[ActiveTraining]:
    """Return all trainings that have not ended, the oldest first."""
    last, opened, done = aliased(RoundRow), aliased(RoundRow), TrainingRow.completed_rounds
    progress_at = func.coalesce(func.greatest(last.finished_at, opened.started_at), TrainingRow.started_at)
    rows = session.execute(
        select(TrainingRow, ClusterRow.budget_usd, progress_at, func.clock_timestamp())
        .join(ClusterRow, ClusterRow.id == TrainingRow.cluster_id)
        .outerjoin(last, and_(last.training_id == TrainingRow.id, last.number == done))
        .outerjoin(opened, and_(opened.training_id == TrainingRow.id, opened.number == done + 1, opened.status == "running"))
        .where(TrainingRow.status.in_(ACTIVE_TRAINING))
        .order_by(TrainingRow.created_at, TrainingRow.id)
    ).all()
    nodes, states = _nodes(session), _worker_states(session)
    return [_active(row, nodes[row.cluster_id], states[row.id], budget, moment, now) for row, budget, moment, now in rows]


def _active(
    row: TrainingRow,
    nodes: Sequence[NodeView],
    states: Mapping[str, int],
    budget: Decimal | None,
    progress_at: datetime | None,
    now: datetime,
) -> ActiveTraining:
    figures = row.progress
    running = {node.id for node in nodes if node.status == "running"}
    billed = [node.price_per_minute for node in nodes if node.started_at is not None and node.ended_at is None]
    return ActiveTraining(
        cluster_id=row.cluster_id,
        training_id=row.id,
        epoch=row.config.epochs_after(row.completed_rounds),
        total_epochs=row.config.epochs,
        loss=figures.global_loss,
        accuracy=figures.global_accuracy,
        validation_accuracy=figures.validation_accuracy,
        cost_usd=float(progress.cost_of(row, nodes, now)),
        remaining_seconds=progress.remaining_seconds(row),
        round_seconds=fmean(figures.recent_seconds) if figures.recent_seconds else None,
        # A resumed training that is still pending would show its last round, from before its pause.
        progress_at=None if progress_at is None or row.status == "pending" else progress_at.timestamp(),
        workers=len(row.workers),
        healthy_workers=len(running.intersection(row.workers)),
        worker_states=states,
        cluster_cost_usd=float(spending.total(nodes, now)),
        cluster_usd_per_hour=float(60 * sum(billed, Decimal(0))),
        budget_usd=None if budget is None else float(budget),
    )


def _nodes(session: Session) -> dict[str, list[NodeView]]:
    """Return the nodes of all clusters that train, by cluster."""
    training = select(TrainingRow.cluster_id).where(TrainingRow.status.in_(ACTIVE_TRAINING))
    found: dict[str, list[NodeView]] = defaultdict(list)
    query = select(NodeRow.cluster_id, *progress.NODE_COLUMNS).where(NodeRow.cluster_id.in_(training))
    for row in session.execute(query):
        found[row[0]].append(NodeView(*row[1:]))
    return found


def _worker_states(session: Session) -> dict[str, dict[str, int]]:
    """Return by training how many of its workers are in each state of the newest round."""
    worker = func.jsonb_each(type_coerce(TrainingRow.worker_progress, JSONB)).table_valued("key", "value")
    state = type_coerce(worker.c.value, JSONB)["state"].astext
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for training_id, name, count in session.execute(
        select(TrainingRow.id, state, func.count())
        .select_from(TrainingRow)
        .join(worker, type_coerce(TrainingRow.workers, JSONB).has_key(worker.c.key))
        .where(TrainingRow.status.in_(ACTIVE_TRAINING), state.is_not(None))
        .group_by(TrainingRow.id, state)
    ):
        found[training_id][name] = count
    return found

"""Idle clusters and clusters whose budget is spent. They are warned first, then ended."""

import logging
from datetime import datetime, timedelta
from decimal import Decimal

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from api.domain.events import EventType
from api.domain.status import ACTIVE_EXECUTION, ACTIVE_SEARCH, ACTIVE_TRAINING, CLOSED_CLUSTER, LIVE_NODE
from api.services import clusters, spending
from api.services.lookup import locked_cluster
from api.store import events
from api.store.database import UnitOfWork
from api.store.tables import ClusterRow, ExecutionRow, ModelRow, NodeRow, PredictionRow, SearchRow, TrainingRow
from workers.context import Context
from workers.steps.shared.clock_jump import ClockJumpDetector

log = logging.getLogger(__name__)
_BUDGET_WARNING = Decimal("0.8")
# An idle cluster is warned five minutes before its end, or a fifth of a short timeout.
_LONGEST_NOTICE = timedelta(minutes=5)
_NOTICE_SHARE = 5
_clock = ClockJumpDetector()


def enforce(context: Context) -> None:
    """Check every cluster that has sandboxes.

    It may run twice, also at once: each check holds the cluster's lock.
    """
    with context.database.unit_of_work() as uow:
        if _clock.has_jumped():
            _restart_idle_times(uow.session)
        ids = uow.session.scalars(
            select(ClusterRow.id).where(
                ClusterRow.status.not_in(CLOSED_CLUSTER),
                select(NodeRow.id).where(NodeRow.cluster_id == ClusterRow.id, NodeRow.status.in_(LIVE_NODE)).exists(),
            )
        ).all()
    for cluster_id in ids:
        with context.database.unit_of_work() as uow:
            _enforce(context, uow, cluster_id)


def _restart_idle_times(session: Session) -> None:
    """Let the idle time of each cluster begin now.

    The time that the machine slept does not count.
    """
    log.warning("the machine slept or its clock was set; the idle times of all clusters begin now")
    session.execute(
        update(ClusterRow)
        .where(ClusterRow.status.not_in(CLOSED_CLUSTER))
        .values(last_call_at=func.clock_timestamp())
        .execution_options(synchronize_session=False)
    )


def _enforce(context: Context, uow: UnitOfWork, cluster_id: str) -> None:
    cluster = locked_cluster(uow.session, cluster_id)
    now: datetime = uow.session.execute(select(func.clock_timestamp())).scalar_one()
    if cluster.status not in CLOSED_CLUSTER:
        _budget(uow, cluster, now)
    if cluster.status not in CLOSED_CLUSTER:
        _idle(uow, cluster, now, context.settings.idle_timeout_minutes)


def _budget(uow: UnitOfWork, cluster: ClusterRow, now: datetime) -> None:
    if cluster.budget_usd is None:
        return
    nodes = uow.session.scalars(select(NodeRow).where(NodeRow.cluster_id == cluster.id)).all()
    cost = spending.total(nodes, now)
    facts = {"cluster_id": cluster.id, "budget_usd": float(cluster.budget_usd), "cost_usd": float(cost)}
    if cost >= cluster.budget_usd:
        log.warning("%s: the budget is spent", cluster.id)
        events.emit(uow.session, cluster.id, EventType.CLUSTER_BUDGET_SPENT, facts)
        clusters.end(uow, cluster, "the budget is spent")
    elif cost >= cluster.budget_usd * _BUDGET_WARNING and cluster.budget_warned_at is None:
        cluster.budget_warned_at = now
        events.emit(uow.session, cluster.id, EventType.CLUSTER_BUDGET_WARNING, facts)


def _idle(uow: UnitOfWork, cluster: ClusterRow, now: datetime, default_minutes: float) -> None:
    minutes = default_minutes if cluster.idle_timeout_minutes is None else cluster.idle_timeout_minutes
    since = _idle_since(uow.session, cluster) if minutes else None
    if since is None:
        return
    timeout = timedelta(minutes=minutes)
    notice = min(_LONGEST_NOTICE, timeout / _NOTICE_SHARE)
    warned = cluster.idle_warned_at if cluster.idle_warned_at is not None and cluster.idle_warned_at >= since else None
    facts = {"cluster_id": cluster.id, "idle_minutes": round((now - since).total_seconds() / 60, 2), "timeout_minutes": minutes}
    if warned is None and now - since >= timeout - notice:
        cluster.idle_warned_at = now
        events.emit(uow.session, cluster.id, EventType.CLUSTER_IDLE_WARNING, facts)
    elif warned is not None and now - since >= timeout and now - warned >= notice:
        log.warning("%s: idle for %s", cluster.id, now - since)
        events.emit(uow.session, cluster.id, EventType.CLUSTER_IDLE_TIMEOUT, facts)
        clusters.end(uow, cluster, "idle")


def _idle_since(session: Session, cluster: ClusterRow) -> datetime | None:
    """When the cluster was last used. None while it is in use."""
    for table, busy in (
        (TrainingRow, ACTIVE_TRAINING),
        (SearchRow, ACTIVE_SEARCH),
        (PredictionRow, {"pending"}),
        (ModelRow, {"pending"}),
        (ExecutionRow, ACTIVE_EXECUTION),
        (NodeRow, {"provisioning"}),
    ):
        if session.scalar(select(table.id).where(table.cluster_id == cluster.id, table.status.in_(busy)).limit(1)):
            return None
    ends = [
        session.scalar(select(func.max(column)).where(table.cluster_id == cluster.id))
        for table, column in (
            (TrainingRow, TrainingRow.finished_at),
            (PredictionRow, PredictionRow.finished_at),
            (ModelRow, ModelRow.finished_at),
            (ExecutionRow, ExecutionRow.finished_at),
            (NodeRow, NodeRow.started_at),
        )
    ]
    return max(moment for moment in (cluster.created_at, cluster.last_call_at, *ends) if moment is not None)

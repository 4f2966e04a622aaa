"""A cluster ends when its nodes, its search and its trainings have ended."""

from functools import partial

from sqlalchemy import func, select

from api.domain.status import ACTIVE_TRAINING
from api.services.clusters import active_search
from api.services.lookup import locked_cluster
from api.store import leases, transitions
from api.store.tables import ClusterRow, NodeRow, TrainingRow
from workers.context import Context
from workers.steps.shared.lease import under_lease

_RETRY_S = 5.0


def advance(context: Context, cluster_id: str) -> None:
    """Move a terminating cluster to `terminated` once everything in it has ended."""
    under_lease(context, ClusterRow, cluster_id, partial(_advance, context, cluster_id))


def _advance(context: Context, cluster_id: str, token: str) -> None:
    with context.database.unit_of_work() as uow:
        cluster = locked_cluster(uow.session, cluster_id)
        leases.held(uow.session, ClusterRow, cluster_id, token)
        if cluster.status != "terminating":
            leases.release(cluster, None)
            return
        nodes = uow.session.scalar(
            select(func.count()).select_from(NodeRow).where(NodeRow.cluster_id == cluster_id, NodeRow.status != "terminated")
        )
        trainings = uow.session.scalar(
            select(func.count())
            .select_from(TrainingRow)
            .where(TrainingRow.cluster_id == cluster_id, TrainingRow.status.in_(ACTIVE_TRAINING))
        )
        if nodes or trainings or active_search(uow.session, cluster) is not None:
            leases.release(cluster, _RETRY_S)
            return
        cluster.terminated_at = func.clock_timestamp()
        transitions.move(uow.session, cluster, "terminated")
        leases.release(cluster, None)

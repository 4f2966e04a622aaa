"""Use cases of a node: a role in a cluster, with its own sandbox."""

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.domain import ids
from api.domain.errors import ConflictError, NotFoundError
from api.domain.events import EventType
from api.domain.specs import NodeSpec
from api.domain.status import ACTIVE_TRAINING, LIVE_NODE
from api.domain.steps import Step
from api.services import quotas
from api.services.clusters import refuse_ended
from api.services.lookup import locked_cluster, owned, owned_locked_cluster
from api.services.pages import PageRequest, ResultPage, fetch_page
from api.services.principals import Principal
from api.settings import Settings
from api.store import events, leases, transitions
from api.store.database import UnitOfWork
from api.store.documents import FormerSandbox
from api.store.tables import ClusterRow, NodeRow, RoundNodeRow, TrainingRow


def deploy(uow: UnitOfWork, settings: Settings, project_id: str, cluster_id: str, spec: NodeSpec) -> NodeRow:
    session = uow.session
    # Lock order: the project first, then the cluster.
    quotas.claim(session, settings, project_id, nodes=1, running_sandboxes=1, spend_usd=0)
    cluster = owned_locked_cluster(session, project_id, cluster_id)
    refuse_ended(cluster)
    if spec.role == "aggregator":
        _refuse_second_aggregator(session, cluster)
    ordinal = cluster.node_counts.get(spec.role, 0) + 1
    cluster.node_counts = {**cluster.node_counts, spec.role: ordinal}
    price = settings.price_aggregator_per_minute if spec.role == "aggregator" else settings.price_worker_per_minute
    node = NodeRow(
        id=ids.node_id(spec.role, ordinal),
        project_id=project_id,
        cluster_id=cluster.id,
        node_type=spec.node_type,
        role=spec.role,
        model=spec.model,
        template=spec.template,
        autonomy=spec.autonomy,
        capabilities=list(spec.capabilities),
        status="provisioning",
        price_per_minute=price,
        data_owner=spec.data_owner,
        due_at=func.clock_timestamp(),
    )
    transitions.created(session, node, role=node.role)
    uow.enqueue(Step.NODES_ADVANCE, node.id)
    return node


def get(session: Session, project_id: str, node_id: str) -> NodeRow:
    return owned(session, NodeRow, project_id, node_id)


def page(session: Session, project_id: str, cluster_id: str, page_request: PageRequest) -> ResultPage[NodeRow]:
    cluster = owned(session, ClusterRow, project_id, cluster_id)
    return fetch_page(session, select(NodeRow).where(NodeRow.cluster_id == cluster.id), NodeRow, page_request)


def rounds(session: Session, caller: Principal, node_id: str, limit: int) -> list[RoundNodeRow]:
    """Return the node's newest rounds of all its trainings.

    A data owner finds only their own node.
    """
    node = owned(session, NodeRow, caller.project_id, node_id)
    if caller.node_id not in (None, node.id):
        raise NotFoundError("node", node_id)
    query = (
        select(RoundNodeRow)
        .join(TrainingRow, TrainingRow.id == RoundNodeRow.training_id)
        .where(RoundNodeRow.node_id == node.id, TrainingRow.cluster_id == node.cluster_id)
        .order_by(TrainingRow.created_at.desc(), TrainingRow.id, RoundNodeRow.number.desc())
    )
    return list(session.scalars(query.limit(limit)))


def remove(uow: UnitOfWork, project_id: str, node_id: str) -> NodeRow:
    """Terminate one node. It is safe to repeat the call.

    Raises:
        ConflictError: a training uses the node.
    """
    session = uow.session
    node = owned(session, NodeRow, project_id, node_id)
    cluster = locked_cluster(session, node.cluster_id)
    session.refresh(node)
    if node.status not in LIVE_NODE:
        return node
    busy = session.scalar(
        select(TrainingRow.id).where(
            TrainingRow.cluster_id == cluster.id,
            TrainingRow.status.in_(ACTIVE_TRAINING),
            TrainingRow.workers.contains([node.id]) | (TrainingRow.aggregator_id == node.id),
        )
    )
    if busy and node.status == "running":
        raise ConflictError("node_in_use", f"Training {busy} uses this node; stop it first.")
    transitions.move(session, node, "terminating")
    cluster.connections = [edge for edge in cluster.connections if node.id not in (edge["from"], edge["to"])]
    cluster.members = [member for member in cluster.members if member != node.id]
    leases.wake(node)
    uow.enqueue(Step.NODES_TERMINATE, node.id)
    return node


def redeploy(uow: UnitOfWork, settings: Settings, project_id: str, node_id: str) -> NodeRow:
    """Start a new sandbox for a node that has failed or whose sandbox is gone.

    Its files must be uploaded again.
    """
    session = uow.session
    node = owned(session, NodeRow, project_id, node_id)
    if node.status in ("lost", "failed"):
        quotas.claim(session, settings, project_id, running_sandboxes=1, spend_usd=0)
    cluster = locked_cluster(session, node.cluster_id)
    session.refresh(node)
    refuse_ended(cluster)
    if node.status == "provisioning":
        return node
    if node.status not in ("lost", "failed") or node.due_at is not None:
        raise ConflictError("node_not_lost", f"The node is {node.status}; only one without a sandbox gets a new one.")
    if node.role == "aggregator":
        _refuse_second_aggregator(session, cluster)
    give_new_sandbox(uow, node, "asked to redeploy")
    return node


def give_new_sandbox(uow: UnitOfWork, node: NodeRow, reason: str) -> None:
    """Start a new sandbox for the node when the old one has ended.

    The node keeps its id and its place in the cluster and in its training.
    """
    session = uow.session
    session.flush()
    session.refresh(node)
    if node.started_at is not None and node.ended_at is not None:
        former_sandbox: FormerSandbox = {
            "sandbox_id": node.sandbox_id,
            "started_at": node.started_at.isoformat(),
            "ended_at": node.ended_at.isoformat(),
        }
        node.former_sandboxes = [*node.former_sandboxes, former_sandbox]
    had_files = node.sandbox_id is not None
    node.sandbox_id = node.sandbox_expires_at = node.agent_started_at = node.started_at = node.ended_at = None
    node.resources = node.error = node.owner_data_at = None
    node.uploaded_bytes = 0
    node.requested_at = func.clock_timestamp()
    node.attempts = 0
    transitions.move(session, node, "provisioning", reason=reason)
    if had_files:
        detail = "The files that were uploaded to this node are gone with its sandbox; upload them again."
        events.emit(
            session, node.cluster_id, EventType.NODE_FILES_LOST, {"node_id": node.id, "role": node.role, "detail": detail}
        )
    leases.wake(node)
    uow.enqueue(Step.NODES_ADVANCE, node.id)


def flag_rejected(session: Session, row: RoundNodeRow, reason: str) -> None:
    """Record on the node that its update was rejected for its content.

    Call this once for each round, while the cluster's row is locked.
    """
    node = session.get_one(NodeRow, row.node_id)
    count = 1 if node.rejected_updates is None else node.rejected_updates["count"] + 1
    node.rejected_updates = {
        "count": count,
        "last_training_id": row.training_id,
        "last_round": row.number,
        "last_reason": reason,
    }
    facts = {"node_id": node.id, "training_id": row.training_id, "round": row.number, "reason": reason, "count": count}
    events.emit(session, node.cluster_id, EventType.NODE_FLAGGED, facts)


def _refuse_second_aggregator(session: Session, cluster: ClusterRow) -> None:
    other_id = session.scalar(
        select(NodeRow.id).where(
            NodeRow.cluster_id == cluster.id,
            NodeRow.role == "aggregator",
            # A lost node that is still due may come back by itself.
            NodeRow.status.in_(("provisioning", "running")) | ((NodeRow.status == "lost") & NodeRow.due_at.is_not(None)),
        )
    )
    if other_id:
        raise ConflictError("aggregator_exists", f"The cluster already has an aggregator: {other_id}.")

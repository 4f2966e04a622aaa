"""Use cases of a cluster."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.domain import ids, topology
from api.domain.consensus import check_topology
from api.domain.errors import ConflictError
from api.domain.events import EventType
from api.domain.specs import ClusterSpec
from api.domain.status import ACTIVE_SEARCH, ACTIVE_TRAINING, CLOSED_CLUSTER, LIVE_NODE
from api.domain.steps import Step
from api.services import lost_nodes, quotas
from api.services.lookup import owned, owned_locked_cluster
from api.services.pages import PageRequest, ResultPage, fetch_page
from api.settings import Settings
from api.store import events, leases, transitions
from api.store.database import UnitOfWork
from api.store.tables import ClusterRow, NodeRow, SearchRow, TrainingRow


def create(uow: UnitOfWork, settings: Settings, project_id: str, spec: ClusterSpec) -> ClusterRow:
    spec.check_topology()
    quotas.claim(uow.session, settings, project_id, clusters=1)
    row = ClusterRow(
        id=ids.cluster_id(),
        project_id=project_id,
        name=spec.name,
        topology=spec.topology,
        config=spec.settings,
        status="initializing",
        idle_timeout_minutes=spec.idle_timeout_minutes,
        budget_usd=spec.budget_usd,
    )
    transitions.created(uow.session, row)
    return row


def get(session: Session, project_id: str, cluster_id: str) -> ClusterRow:
    return owned(session, ClusterRow, project_id, cluster_id)


def page(session: Session, project_id: str, page_request: PageRequest) -> ResultPage[ClusterRow]:
    return fetch_page(session, select(ClusterRow).where(ClusterRow.project_id == project_id), ClusterRow, page_request)


def connect(uow: UnitOfWork, project_id: str, cluster_id: str, new_topology: topology.Topology | None) -> ClusterRow:
    """Connect the running nodes.

    A cluster can be connected again between trainings, with another topology. During a training,
    nodes that have joined since are added, and the topology stays.
    """
    session = uow.session
    cluster = owned_locked_cluster(session, project_id, cluster_id)
    refuse_ended(cluster)
    if active_search(session, cluster) is not None:
        raise ConflictError("search_active", "The cluster cannot be connected again while a search runs.")
    is_training = cluster.status == "training"
    if is_training and new_topology not in (None, cluster.topology):
        message = f"While a training runs, the topology stays {cluster.topology!r}. New nodes can be connected: leave it out."
        raise ConflictError("training_active", message)
    # A node of a running training may be away for a moment. It stays a member.
    kept = set(cluster.members) if is_training else set()
    nodes = [
        node
        for node in session.scalars(
            select(NodeRow)
            .where(NodeRow.cluster_id == cluster.id, NodeRow.status.in_(LIVE_NODE))
            .order_by(NodeRow.created_at, NodeRow.id)
        )
        if node.status in ("running", "provisioning") or node.id in kept
    ]
    starting = [node.id for node in nodes if node.status == "provisioning" and node.id not in kept]
    if starting:
        raise ConflictError("nodes_not_ready", f"These nodes are still starting: {', '.join(starting)}.")
    workers = [node.id for node in nodes if node.role == "worker"]
    if not workers:
        message = "The cluster has no running worker to connect."
        raise ConflictError("no_workers", message + lost_nodes.advice(session, cluster.id))
    aggregator = next((node.id for node in nodes if node.role == "aggregator"), None)
    aggregator = aggregator or next((node.id for node in nodes if node.acts_as_aggregator), None)
    if new_topology:
        check_topology(cluster.config.consensus, new_topology)
        cluster.topology = new_topology
    if aggregator is None and cluster.topology in ("star", "hierarchical"):
        message = f"A {cluster.topology} topology needs an aggregator, and none is running."
        raise ConflictError("no_aggregator", message + lost_nodes.advice(session, cluster.id))
    edges = topology.edges(cluster.topology, workers, aggregator)  # type: ignore[arg-type]
    cluster.connections = [{"from": edge.source, "to": edge.target} for edge in edges if edge.source != edge.target]
    cluster.members = [node.id for node in nodes]
    if cluster.status == "initializing":
        transitions.move(session, cluster, "connected", topology=cluster.topology)
    else:
        facts = {"from": cluster.status, "status": cluster.status, "topology": cluster.topology}
        events.emit(session, cluster.id, EventType.CLUSTER_CONNECTED, facts)
    return cluster


def terminate(uow: UnitOfWork, project_id: str, cluster_id: str) -> ClusterRow:
    """Stop everything that costs. It is safe to repeat the call."""
    cluster = owned_locked_cluster(uow.session, project_id, cluster_id)
    if cluster.status not in CLOSED_CLUSTER:
        end(uow, cluster, "asked to terminate")
    return cluster


def end(uow: UnitOfWork, cluster: ClusterRow, reason: str) -> None:
    """Stop the search and the trainings of a locked cluster, and end its sandboxes."""
    session = uow.session
    search = active_search(session, cluster)
    if search is not None:
        if search.status != "stopping":
            transitions.move(session, search, "stopping", reason="the cluster is being terminated")
        leases.wake(search)
        uow.enqueue(Step.SEARCHES_ADVANCE, search.id)
    active = session.scalars(
        select(TrainingRow).where(TrainingRow.cluster_id == cluster.id, TrainingRow.status.in_(ACTIVE_TRAINING))
    ).all()
    for training in active:
        if training.status != "stopping":
            transitions.move(session, training, "stopping", reason="the cluster is being terminated")
        leases.wake(training)
        uow.enqueue(Step.TRAININGS_ADVANCE, training.id)
    transitions.move(session, cluster, "terminating", reason=reason)
    nodes = session.scalars(select(NodeRow).where(NodeRow.cluster_id == cluster.id, NodeRow.status.in_(LIVE_NODE))).all()
    for node in nodes:
        transitions.move(session, node, "terminating")
        leases.wake(node)
        uow.enqueue(Step.NODES_TERMINATE, node.id)
    leases.wake(cluster)
    uow.enqueue(Step.CLUSTERS_ADVANCE, cluster.id)


def refuse_ended(cluster: ClusterRow) -> None:
    if cluster.status in CLOSED_CLUSTER:
        raise ConflictError("cluster_terminated", f"The cluster is {cluster.status}.")


def active_search(session: Session, cluster: ClusterRow) -> SearchRow | None:
    """Return the active search of the cluster. There is at most one."""
    return session.scalar(select(SearchRow).where(SearchRow.cluster_id == cluster.id, SearchRow.status.in_(ACTIVE_SEARCH)))

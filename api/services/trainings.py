"""Use cases of a training."""

from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.domain import exclusions, ids
from api.domain.errors import ConflictError
from api.domain.specs import common_model
from api.domain.status import ACTIVE_TRAINING, CLOSED_CLUSTER
from api.domain.steps import Step
from api.domain.stopping import TrainingStop
from api.domain.training_spec import TrainingSpec
from api.services import extension, initial_models, lost_nodes
from api.services import progress as figures
from api.services.clusters import active_search, refuse_ended
from api.services.lookup import locked_cluster, owned, owned_locked_cluster
from api.services.pages import PageRequest, ResultPage, fetch_page
from api.store import leases, transitions
from api.store.database import UnitOfWork
from api.store.tables import ClusterRow, NodeRow, RoundNodeRow, RoundRow, TrainingRow


def start(uow: UnitOfWork, project_id: str, cluster_id: str, spec: TrainingSpec) -> TrainingRow:
    """Start a training on the cluster's connected workers. Its first step checks their data."""
    cluster = owned_locked_cluster(uow.session, project_id, cluster_id)
    refuse_ended(cluster)
    refuse_busy(uow.session, cluster)
    workers, aggregator = training_nodes(uow.session, cluster)
    return begin(uow, cluster, spec, workers, aggregator)


def begin(
    uow: UnitOfWork,
    cluster: ClusterRow,
    spec: TrainingSpec,
    workers: Sequence[NodeRow],
    aggregator: NodeRow,
    search_id: str | None = None,
) -> TrainingRow:
    """Create a training in a locked cluster without another one, alone or for a search."""
    spec.check_mode(cluster.config.consensus)
    exclusions.check(spec, cluster.config.consensus)
    spec.check_workers(len(workers), cluster.config.consensus)
    model = common_model([worker.model for worker in workers], aggregator.model)
    initial_models.check(uow.session, cluster, spec, model)
    row = TrainingRow(
        id=ids.training_id(spec.federated),
        project_id=cluster.project_id,
        cluster_id=cluster.id,
        search_id=search_id,
        status="pending",
        config=spec,
        model=model,
        workers=[worker.id for worker in workers],
        aggregator_id=aggregator.id,
        due_at=func.clock_timestamp(),
    )
    transitions.created(uow.session, row, workers=row.workers, aggregator=row.aggregator_id)
    uow.enqueue(Step.TRAININGS_ADVANCE, row.id)
    return row


def get(session: Session, project_id: str, training_id: str) -> TrainingRow:
    return owned(session, TrainingRow, project_id, training_id)


def page(session: Session, project_id: str, cluster_id: str | None, page_request: PageRequest) -> ResultPage[TrainingRow]:
    query = select(TrainingRow).where(TrainingRow.project_id == project_id)
    if cluster_id is not None:
        query = query.where(TrainingRow.cluster_id == owned(session, ClusterRow, project_id, cluster_id).id)
    return fetch_page(session, query, TrainingRow, page_request)


def rounds(
    session: Session, project_id: str, training_id: str, limit: int, after_number: int
) -> Sequence[tuple[RoundRow, list[RoundNodeRow]]]:
    """Return the rounds by number, each with the metrics of its workers."""
    training = owned(session, TrainingRow, project_id, training_id)
    rows = session.scalars(
        select(RoundRow)
        .where(RoundRow.training_id == training.id, RoundRow.number > after_number)
        .order_by(RoundRow.number)
        .limit(limit)
    ).all()
    nodes: dict[int, list[RoundNodeRow]] = {row.number: [] for row in rows}
    for node in session.scalars(
        select(RoundNodeRow)
        .where(RoundNodeRow.training_id == training.id, RoundNodeRow.number.in_(nodes))
        .order_by(RoundNodeRow.number, RoundNodeRow.node_id)
    ):
        nodes[node.number].append(node)
    return [(row, nodes[row.number]) for row in rows]


def stop(uow: UnitOfWork, project_id: str, training_id: str) -> TrainingRow:
    """Stop a training and drop its current round. A training that has ended does not change."""
    session = uow.session
    training = owned(session, TrainingRow, project_id, training_id)
    locked_cluster(session, training.cluster_id)
    session.refresh(training)
    halt(uow, training, "asked to stop")
    return training


def halt(uow: UnitOfWork, training: TrainingRow, reason: str, why: TrainingStop | None = None) -> None:
    """Stop a training of a locked cluster, unless it is stopping or has ended.

    `why` becomes its `stop_reason`.
    """
    if training.status in ("pending", "training"):
        training.stop_reason = why
        transitions.move(uow.session, training, "stopping", reason=reason)
        leases.wake(training)
        uow.enqueue(Step.TRAININGS_INTERRUPT, training.id)
        uow.enqueue(Step.TRAININGS_ADVANCE, training.id)


def resume(uow: UnitOfWork, project_id: str, training_id: str, epochs: int | None = None) -> TrainingRow:
    """Continue a training after its last completed round, with the workers that run now.

    `epochs`: it trains so many epochs from there. Without it, it trains those that are left.
    """
    session = uow.session
    training = owned(session, TrainingRow, project_id, training_id)
    cluster = locked_cluster(session, training.cluster_id)
    session.refresh(training)
    if training.status in ("pending", "training") and epochs is None:
        return training
    extension.check_status(training, epochs)
    if cluster.status in CLOSED_CLUSTER:
        raise ConflictError(
            "cluster_terminated",
            f"The cluster is {cluster.status}. Create a new training with `initial_model` in another cluster: "
            f"{training.id}, if its newest model is exported, or the id of one of its exported models.",
        )
    refuse_busy(session, cluster)
    if epochs is not None:
        extension.extend(session, training, epochs)
    workers, aggregator = training_nodes(session, cluster)
    training.workers = [worker.id for worker in workers]
    training.aggregator_id = aggregator.id
    training.model = common_model([worker.model for worker in workers], aggregator.model)
    training.error = training.stop_reason = None
    figures.add_pause(session, training)
    training.finished_at = training.cost_usd = None
    reasons: dict[str, object] = {"reason": "resumed"} if epochs is None else {"reason": "extended", "epochs": epochs}
    transitions.move(session, training, "pending", **reasons)
    leases.wake(training)
    uow.enqueue(Step.TRAININGS_ADVANCE, training.id)
    return training


def training_nodes(session: Session, cluster: ClusterRow, *, ignore_unconnected: bool = False) -> tuple[list[NodeRow], NodeRow]:
    """Return the running workers that train, and the aggregator.

    `ignore_unconnected` leaves out nodes that joined after the last connect of the cluster.
    Otherwise such nodes are a conflict.

    Raises:
        ConflictError: `no_workers`, `no_aggregator` or `not_connected`.
    """
    nodes = session.scalars(
        select(NodeRow)
        .where(NodeRow.cluster_id == cluster.id, NodeRow.status == "running")
        .order_by(NodeRow.created_at, NodeRow.id)
    ).all()
    if ignore_unconnected:
        nodes = [node for node in nodes if node.id in cluster.members]
    workers = [node for node in nodes if node.role == "worker" and "training" in node.capabilities]
    aggregators = [node for node in nodes if node.role == "aggregator" and "aggregation" in node.capabilities]
    # A promoted worker stays the aggregator until there is a parameter server again.
    aggregators = aggregators or [node for node in workers if node.acts_as_aggregator]
    if not workers:
        message = "The cluster has no running worker with the capability 'training'."
        raise ConflictError("no_workers", message + lost_nodes.advice(session, cluster.id))
    if not aggregators:
        message = "The cluster has no running aggregator (node_type parameter_server)."
        raise ConflictError("no_aggregator", message + lost_nodes.advice(session, cluster.id))
    if cluster.status == "initializing":
        raise ConflictError("not_connected", "Connect the cluster before a training: POST …/connect.")
    unconnected = [node.id for node in (*workers, aggregators[0]) if node.id not in cluster.members]
    if unconnected:
        message = f"Connect the cluster again; these nodes have joined since: {', '.join(unconnected)}."
        raise ConflictError("not_connected", message)
    for node in nodes:
        node.acts_as_aggregator = node.acts_as_aggregator and node is aggregators[0]
    return workers, aggregators[0]


def refuse_busy(session: Session, cluster: ClusterRow) -> None:
    """Check that no search and no training runs in the cluster: there is one at a time.

    Raises:
        ConflictError: `search_active` or `training_active`.
    """
    search = active_search(session, cluster)
    if search is not None:
        raise ConflictError("search_active", f"Search {search.id} is still running in this cluster.")
    training = session.scalar(
        select(TrainingRow.id).where(TrainingRow.cluster_id == cluster.id, TrainingRow.status.in_(ACTIVE_TRAINING))
    )
    if training:
        raise ConflictError("training_active", f"Training {training} is still running in this cluster.")

"""Use cases of a training."""

from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.domain import ids
from api.domain.errors import ConflictError
from api.domain.specs import TrainingSpec, common_model
from api.domain.status import ACTIVE_TRAINING
from api.services.clusters import refuse_ended
from api.services.lookup import locked_cluster, owned, owned_locked_cluster
from api.services.pages import Cursor, Page, fetch
from api.store import leases, transitions
from api.store.database import UnitOfWork
from api.store.models import ClusterRow, NodeRow, RoundNodeRow, RoundRow, TrainingRow


def start(uow: UnitOfWork, project_id: str, cluster_id: str, spec: TrainingSpec) -> TrainingRow:
    """Take the cluster's connected workers into a new training. The workers' data is checked by its first step."""
    session = uow.session
    cluster = owned_locked_cluster(session, project_id, cluster_id)
    refuse_ended(cluster)
    spec.check_mode(cluster.config["consensus"])
    _refuse_second(session, cluster)
    workers, aggregator = _members(session, cluster)
    spec.check_workers(len(workers))
    row = TrainingRow(
        id=ids.training_id(spec.federated),
        project_id=project_id,
        cluster_id=cluster.id,
        status="pending",
        config=spec.config(),
        model=common_model([worker.model for worker in workers], aggregator.model),
        workers=[worker.id for worker in workers],
        aggregator_id=aggregator.id,
        due_at=func.clock_timestamp(),
    )
    transitions.created(session, row, workers=row.workers, aggregator=row.aggregator_id)
    uow.ring("trainings.advance", row.id)
    return row


def get(session: Session, project_id: str, training_id: str) -> TrainingRow:
    return owned(session, TrainingRow, project_id, training_id)


def page(session: Session, project_id: str, cluster_id: str | None, limit: int, after: Cursor | None) -> Page[TrainingRow]:
    query = select(TrainingRow).where(TrainingRow.project_id == project_id)
    if cluster_id is not None:
        query = query.where(TrainingRow.cluster_id == owned(session, ClusterRow, project_id, cluster_id).id)
    return fetch(session, query, TrainingRow, limit, after)


def rounds(
    session: Session, project_id: str, training_id: str, limit: int, after_number: int
) -> Sequence[tuple[RoundRow, list[RoundNodeRow]]]:
    """Rounds by number, each with its workers' figures."""
    training = owned(session, TrainingRow, project_id, training_id)
    found = session.scalars(
        select(RoundRow)
        .where(RoundRow.training_id == training.id, RoundRow.number > after_number)
        .order_by(RoundRow.number)
        .limit(limit)
    ).all()
    nodes: dict[int, list[RoundNodeRow]] = {row.number: [] for row in found}
    for node in session.scalars(
        select(RoundNodeRow)
        .where(RoundNodeRow.training_id == training.id, RoundNodeRow.number.in_(nodes))
        .order_by(RoundNodeRow.number, RoundNodeRow.node_id)
    ):
        nodes[node.number].append(node)
    return [(row, nodes[row.number]) for row in found]


def stop(uow: UnitOfWork, project_id: str, training_id: str) -> TrainingRow:
    """Ask for a stop; the round in hand is given up. Safe to ask twice; a finished training stays as it is."""
    session = uow.session
    training = owned(session, TrainingRow, project_id, training_id)
    locked_cluster(session, training.cluster_id)
    session.refresh(training)
    if training.status in ("pending", "training"):
        transitions.move(session, training, "stopping", reason="asked to stop")
        leases.wake(training)
        uow.ring("trainings.interrupt", training.id)
        uow.ring("trainings.advance", training.id)
    return training


def resume(uow: UnitOfWork, project_id: str, training_id: str) -> TrainingRow:
    """Go on after the last completed round, with the workers that run now."""
    session = uow.session
    training = owned(session, TrainingRow, project_id, training_id)
    cluster = locked_cluster(session, training.cluster_id)
    session.refresh(training)
    if training.status in ("pending", "training"):
        return training
    if training.status not in ("stopped", "failed"):
        raise ConflictError("not_resumable", f"A training that is {training.status} cannot be resumed.")
    refuse_ended(cluster)
    _refuse_second(session, cluster)
    workers, aggregator = _members(session, cluster)
    training.workers = [worker.id for worker in workers]
    training.aggregator_id = aggregator.id
    training.model = common_model([worker.model for worker in workers], aggregator.model)
    training.error = training.stop_reason = None
    if training.finished_at is not None and training.started_at is not None:
        gap = session.scalar(select(func.extract("epoch", func.clock_timestamp() - training.finished_at)))
        training.paused_seconds += float(gap or 0)
    training.finished_at = None
    transitions.move(session, training, "pending", reason="resumed")
    leases.wake(training)
    uow.ring("trainings.advance", training.id)
    return training


def _members(session: Session, cluster: ClusterRow) -> tuple[list[NodeRow], NodeRow]:
    nodes = session.scalars(
        select(NodeRow)
        .where(NodeRow.cluster_id == cluster.id, NodeRow.status == "running")
        .order_by(NodeRow.created_at, NodeRow.id)
    ).all()
    workers = [node for node in nodes if node.role == "worker" and "training" in node.capabilities]
    aggregators = [node for node in nodes if node.role == "aggregator" and "aggregation" in node.capabilities]
    if not workers:
        raise ConflictError("no_workers", "The cluster has no running worker with the capability 'training'.")
    if not aggregators:
        raise ConflictError("no_aggregator", "The cluster has no running aggregator (node_type parameter_server).")
    if cluster.status == "initializing":
        raise ConflictError("not_connected", "Connect the cluster before a training: POST …/connect.")
    outside = [node.id for node in (*workers, aggregators[0]) if node.id not in cluster.members]
    if outside:
        raise ConflictError("not_connected", f"Connect the cluster again; these nodes have joined since: {', '.join(outside)}.")
    return workers, aggregators[0]


def _refuse_second(session: Session, cluster: ClusterRow) -> None:
    running = session.scalar(
        select(TrainingRow.id).where(TrainingRow.cluster_id == cluster.id, TrainingRow.status.in_(ACTIVE_TRAINING))
    )
    if running:
        raise ConflictError("training_active", f"Training {running} is still running in this cluster.")

"""A training as its steps see it, and how a step gives it back or ends it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.domain.initial_models import InitialModel
from api.domain.privacy import TrainingPrivacyRecord
from api.domain.records import FailureReason
from api.domain.red_flags import JOIN_FLAGS
from api.domain.specs import ClusterSettings
from api.domain.status import ACTIVE_TRAINING
from api.domain.steps import Step
from api.domain.stopping import TrainingStop
from api.domain.training_spec import TrainingSpec
from api.services import progress as figures
from api.services import searches
from api.services.lookup import locked_cluster
from api.store import leases, transitions
from api.store.database import UnitOfWork
from api.store.tables import ClusterRow, NodeRow, RoundRow, TrainingRow
from workers.agent.protocol.common import ModelSpec
from workers.context import Context
from workers.steps.shared import red_flags
from workers.steps.shared.agent_messages import model_spec
from workers.steps.shared.node_snapshot import NodeSnapshot

_RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class TrainingSnapshot:
    """A training as plain values, read in one transaction.

    - `planned_workers`: the ids of all workers that the training began with, or that joined it.
    - `workers`: those that run and take part in the current round.
    - `recovering`: those that stopped answering. Their sandbox may still be there.
    - `idle`: those that run but are not in the current round. They may hold its base model.
    - `may_join`: whether a running worker takes no part, or a red flag says that one did not.
    - `aggregator`: None while it does not run. `aggregator_recovers` says whether it may come back.
    """

    training_id: str
    cluster_id: str
    status: str
    spec: TrainingSpec
    cluster: ClusterSettings
    topology: str
    model: str
    labels: tuple[str, ...]
    digest: str | None
    completed_rounds: int
    stop_reason: TrainingStop | None
    planned_workers: tuple[str, ...]
    workers: tuple[NodeSnapshot, ...]
    recovering: tuple[NodeSnapshot, ...]
    validators: tuple[NodeSnapshot, ...]
    aggregator_id: str
    aggregator: NodeSnapshot | None
    aggregator_recovers: bool
    term: int = 1
    privacy: TrainingPrivacyRecord | None = None
    idle: tuple[NodeSnapshot, ...] = ()
    initial: InitialModel | None = None
    may_join: bool = False

    @property
    def drawn_per_round(self) -> int:
        return self.spec.drawn_workers(len(self.planned_workers))

    @property
    def model_spec(self) -> ModelSpec:
        return self.model_spec_for(self.labels, self.initial)

    def model_spec_for(self, labels: Sequence[str], initial: InitialModel | None) -> ModelSpec:
        return model_spec(self.cluster.architecture, self.model, self.spec, labels, initial)


def load(session: Session, training: TrainingRow) -> TrainingSnapshot:
    """Read a training and its nodes."""
    cluster = session.execute(select(ClusterRow).where(ClusterRow.id == training.cluster_id)).scalar_one()
    rows = session.scalars(
        select(NodeRow)
        .where(NodeRow.cluster_id == cluster.id, NodeRow.status.in_(("provisioning", "running", "lost")))
        .order_by(NodeRow.created_at, NodeRow.id)
    ).all()
    running = {row.id: NodeSnapshot.of(row) for row in rows if row.status == "running"}
    recovering = {row.id: NodeSnapshot.of(row) for row in rows if row.status == "lost" and row.due_at and row.sandbox_id}
    starting = {row.id for row in rows if row.status == "provisioning"}
    return TrainingSnapshot(
        training_id=training.id,
        cluster_id=cluster.id,
        status=training.status,
        spec=training.config,
        cluster=cluster.config,
        topology=cluster.topology,
        model=training.model,
        labels=tuple(training.labels or ()),
        digest=training.digest,
        completed_rounds=training.completed_rounds,
        stop_reason=training.stop_reason,
        planned_workers=tuple(training.workers),
        workers=tuple(running[node_id] for node_id in training.workers if node_id in running),
        recovering=tuple(recovering[node_id] for node_id in training.workers if node_id in recovering),
        validators=tuple(node for node in running.values() if node.role == "validator"),
        aggregator_id=training.aggregator_id,
        aggregator=running.get(training.aggregator_id),
        aggregator_recovers=training.aggregator_id in recovering.keys() | starting,
        term=training.term,
        privacy=training.privacy,
        initial=training.initial_model,
        may_join=_may_join(training, running.values()),
    )


def _may_join(training: TrainingRow, running: Iterable[NodeSnapshot]) -> bool:
    outside = (node for node in running if node.role == "worker" and node.node_id not in training.workers)
    return any("training" in node.capabilities for node in outside) or any(
        flag.code in JOIN_FLAGS for flag in training.red_flags
    )


def wait_and_retry(context: Context, training: TrainingSnapshot, token: str) -> None:
    """Give the training back, due again soon. It waits for something that happens elsewhere."""
    with context.database.unit_of_work() as uow:
        locked_cluster(uow.session, training.cluster_id)
        row = leases.held(uow.session, TrainingRow, training.training_id, token)
        red_flags.update(uow.session, row)
        leases.release(row, _RETRY_S, waits=True)


def end_training(
    context: Context, training: TrainingSnapshot, token: str, status: str, error: FailureReason | None = None
) -> None:
    """Finish a training as `completed`, `stopped` or `failed`, and free its cluster for the
    next.
    """
    with context.database.unit_of_work() as uow:
        cluster = locked_cluster(uow.session, training.cluster_id)
        _end(uow, cluster, leases.held(uow.session, TrainingRow, training.training_id, token), status, error)


def fail_training(context: Context, training_id: str, token: str, error: FailureReason) -> None:
    """Finish a training as `failed` without reading it, because to read it may be what fails."""
    with context.database.unit_of_work() as uow:
        session = uow.session
        cluster_id = session.execute(select(TrainingRow.cluster_id).where(TrainingRow.id == training_id)).scalar_one()
        cluster = locked_cluster(session, cluster_id)
        row = leases.held(session, TrainingRow, training_id, token)
        if row.status in ACTIVE_TRAINING:
            _end(uow, cluster, row, "failed", error)
        else:
            leases.release(row, None)


def _end(uow: UnitOfWork, cluster: ClusterRow, row: TrainingRow, status: str, error: FailureReason | None) -> None:
    session = uow.session
    if row.status == "stopping" and status == "failed":
        status, error = "stopped", None
    open_round = session.scalar(select(RoundRow).where(RoundRow.training_id == row.id, RoundRow.status == "running"))
    if open_round is not None:
        open_round.error = error
        transitions.move_round(open_round, "failed" if status == "failed" else "stopped")
    row.error = error
    now = session.execute(select(func.clock_timestamp())).scalar_one()
    row.finished_at, row.preparation = now, None
    row.cost_usd = figures.training_cost(session, row, now)
    transitions.move(session, row, status, **_reasons(error, None if status == "failed" else row.stop_reason))
    leases.release(row, None)
    searches.wake_search(uow, row)
    if cluster.status == "training":
        transitions.move(session, cluster, "connected")
    if cluster.status == "terminating":
        leases.wake(cluster)
        uow.enqueue(Step.CLUSTERS_ADVANCE, cluster.id)


def _reasons(error: FailureReason | None, stop_reason: TrainingStop | None) -> dict[str, object]:
    reasons: dict[str, object] = {}
    if error is not None:
        reasons["error"] = error.facts()
    if stop_reason is not None:
        reasons["stop_reason"] = stop_reason.model_dump()
    return reasons

"""A training as its steps see it, and how one ends."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.domain import progress, sampling
from api.domain.steps import Step
from api.services import searches
from api.services.lookup import locked_cluster
from api.store import leases, transitions
from api.store.tables import ClusterRow, NodeRow, RoundRow, TrainingRow
from workers.agent.protocol.aggregation import StrategySpec
from workers.agent.protocol.common import ModelSpec
from workers.agent.protocol.training import Compression
from workers.context import Context
from workers.steps.shared import red_flags
from workers.steps.shared.node_snapshot import NodeSnapshot

_RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class TrainingSnapshot:
    """A training as its step sees it: plain values, read in one transaction.

    `workers` are those that run; `returning` are those that stopped answering and whose sandbox may still be there; `resting`
    are those that run and are not in the round in hand, but may hold the model that it began with.
    """

    training_id: str
    cluster_id: str
    status: str
    config: dict[str, Any]
    cluster_config: dict[str, Any]
    topology: str
    model: str
    labels: tuple[str, ...]
    digest: str | None
    completed_rounds: int
    attempts: int
    stop_reason: dict[str, Any] | None
    planned_workers: tuple[str, ...]
    workers: tuple[NodeSnapshot, ...]
    recovering: tuple[NodeSnapshot, ...]
    validators: tuple[NodeSnapshot, ...]
    aggregator_id: str
    aggregator: NodeSnapshot | None
    aggregator_returns: bool
    term: int = 1
    privacy: dict[str, Any] | None = None
    idle: tuple[NodeSnapshot, ...] = ()

    @property
    def total_rounds(self) -> int:
        return progress.total_rounds(self.config["epochs"], self.config["local_epochs"])

    @property
    def drawn_per_round(self) -> int:
        return sampling.count(len(self.planned_workers), self.config["fraction"], self.config["min_workers"])

    @property
    def strategy_spec(self) -> StrategySpec:
        wanted = {name: self.config[name] for name in StrategySpec.model_fields if name != "name"}
        return StrategySpec(name=self.config["strategy"], **wanted)

    @property
    def model_spec(self) -> ModelSpec:
        return self.spec_for(self.labels)

    @property
    def compression(self) -> Compression:
        word = self.config["compression"]
        values = next((value for value in ("int8", "fp16") if value in word), "fp32")
        ratio = self.config["compression_ratio"]
        return Compression(values=values, sparse="topk" in word, ratio=1.0 if ratio is None else ratio)

    def spec_for(self, labels: Sequence[str]) -> ModelSpec:
        return model_spec(self.cluster_config["architecture"], self.model, self.config, labels)


def model_spec(architecture: str, model: str, config: Mapping[str, Any], labels: Sequence[str]) -> ModelSpec:
    """The network of a training with this `config`."""
    return ModelSpec(
        architecture=architecture,
        model=model,
        labels=list(labels),
        max_length=config["max_length"],
        seed=config["seed"],
        lora_rank=config["lora_rank"],
    )


def load(session: Session, training: TrainingRow) -> TrainingSnapshot:
    cluster = session.execute(select(ClusterRow).where(ClusterRow.id == training.cluster_id)).scalar_one()
    rows = session.scalars(
        select(NodeRow)
        .where(NodeRow.cluster_id == cluster.id, NodeRow.status.in_(("provisioning", "running", "lost")))
        .order_by(NodeRow.created_at, NodeRow.id)
    ).all()
    members = {row.id: NodeSnapshot.of(row) for row in rows if row.status == "running"}
    away = {row.id: NodeSnapshot.of(row) for row in rows if row.status == "lost" and row.due_at and row.sandbox_id}
    starting = {row.id for row in rows if row.status == "provisioning"}
    return TrainingSnapshot(
        training_id=training.id,
        cluster_id=cluster.id,
        status=training.status,
        config=training.config,
        cluster_config=cluster.config,
        topology=cluster.topology,
        model=training.model,
        labels=tuple(training.labels or ()),
        digest=training.digest,
        completed_rounds=training.completed_rounds,
        attempts=training.attempts,
        stop_reason=training.stop_reason,
        planned_workers=tuple(training.workers),
        workers=tuple(members[node_id] for node_id in training.workers if node_id in members),
        recovering=tuple(away[node_id] for node_id in training.workers if node_id in away),
        validators=tuple(member for member in members.values() if member.role == "validator"),
        aggregator_id=training.aggregator_id,
        aggregator=members.get(training.aggregator_id),
        aggregator_returns=training.aggregator_id in away.keys() | starting,
        term=training.term,
        privacy=training.privacy,
    )


def wait_and_retry(context: Context, job: TrainingSnapshot, token: str) -> None:
    """Give the training back, due again soon: what it waits for happens elsewhere."""
    with context.database.unit_of_work() as uow:
        locked_cluster(uow.session, job.cluster_id)
        training = leases.held(uow.session, TrainingRow, job.training_id, token)
        red_flags.update(uow.session, training)
        leases.release(training, _RETRY_S, waits=True)


def end(context: Context, job: TrainingSnapshot, token: str, status: str, error: dict[str, Any] | None = None) -> None:
    """Finish a training as `completed`, `stopped` or `failed`, and free its cluster for the next."""
    with context.database.unit_of_work() as uow:
        session = uow.session
        cluster = locked_cluster(session, job.cluster_id)
        training = leases.held(session, TrainingRow, job.training_id, token)
        if training.status == "stopping" and status == "failed":
            status, error = "stopped", None
        open_round = session.scalar(select(RoundRow).where(RoundRow.training_id == training.id, RoundRow.status == "running"))
        if open_round is not None:
            open_round.error = error
            transitions.move_round(open_round, "failed" if status == "failed" else "stopped")
        training.error = error
        training.finished_at = func.clock_timestamp()
        why = {"error": error, "stop_reason": None if status == "failed" else training.stop_reason}
        transitions.move(session, training, status, **{name: value for name, value in why.items() if value})
        leases.release(training, None)
        searches.wake_search(uow, training)
        if cluster.status == "training":
            transitions.move(session, cluster, "connected")
        if cluster.status == "terminating":
            leases.wake(cluster)
            uow.enqueue(Step.CLUSTERS_ADVANCE, cluster.id)

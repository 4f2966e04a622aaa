"""What one look at a round brings, and how its workers stand to one another."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from api.domain import topology
from workers.agent.protocol.aggregation import AggregateReport
from workers.agent.protocol.common import LinkUse, Peer
from workers.agent.protocol.exchange import DataPath
from workers.agent.protocol.inference import EvaluationResult
from workers.agent.protocol.training import TrainReport
from workers.steps.shared.node_snapshot import NodeSnapshot
from workers.steps.shared.training_snapshot import TrainingSnapshot


@dataclass(slots=True)
class RoundObservation:
    """What one look at a round has brought. `aggregate` is None while the aggregator cannot be reached; `silent` are workers
    that did not answer, `lost` those that will not come back, `declined` those that would rather not; `copies` are the workers
    that hold the new model, `links` what they took to have it."""

    aggregate: AggregateReport | None = None
    reports: dict[str, TrainReport] = field(default_factory=dict)
    unreachable: dict[str, str] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    declined: dict[str, str] = field(default_factory=dict)
    copies: list[str] = field(default_factory=list)
    links: list[LinkUse] = field(default_factory=list)
    evaluations: list[EvaluationResult] = field(default_factory=list)
    evaluated_by: str | None = None
    evaluate_seconds: float | None = None


def learners(job: TrainingSnapshot, workers: Sequence[NodeSnapshot]) -> list[NodeSnapshot]:
    """Who holds samples of the training's data set, and can hold some out: the workers, or the aggregator of a pooled one."""
    if job.config["federated"]:
        return list(workers)
    return [job.aggregator] if job.aggregator is not None else []


def is_hopeless(aggregate: AggregateReport) -> bool:
    """Whether a round has failed and would fail again. Where updates were late, their workers have them ready by now."""
    return aggregate.state == "failed" and not aggregate.late


def in_order(job: TrainingSnapshot, peers: dict[str, Peer]) -> list[Peer]:
    """The round's workers in an order that no look at the round changes: a ring depends on it."""
    members = {member.node_id for member in (*job.workers, *job.recovering)}
    return [peers[node_id] for node_id in job.planned_workers if node_id in members and node_id in peers]


def data_path(job: TrainingSnapshot, number: int, kind: str, peers: list[Peer], wait_s: float) -> DataPath | None:
    if kind == "star":
        return None
    names = [peer.node_id for peer in peers]
    groups = topology.groups(names) if kind == "hierarchical" else []
    if kind == "gossip":
        groups = topology.matching(job.topology, names, job.config["seed"], number)  # type: ignore[arg-type]
    return DataPath(kind=kind, peers=peers, groups=groups, wait_s=wait_s)

"""A round at the aggregator: the request, and its report."""

from typing import Literal

from pydantic import Field

from workers.agent.protocol.common import AgentProblem, Decision, LinkUse, Message, ModelSpec, Peer
from workers.agent.protocol.consensus import AuditRecord, Vote
from workers.agent.protocol.exchange import DataPath
from workers.agent.protocol.inference import EvaluationResult
from workers.agent.protocol.training import Compression, Hyperparameters, TrainReport


class StrategySpec(Message):
    """How updates become the next global model; only the parameters of the strategy named are set."""

    name: str = "fedavg"
    server_learning_rate: float | None = None
    server_momentum: float | None = None
    server_beta_1: float | None = None
    server_beta_2: float | None = None
    server_tau: float | None = None
    trim_fraction: float | None = None
    byzantine_count: int | None = None


class AggregateRound(Message):
    training_id: str
    round: int = Field(ge=1)
    model: ModelSpec
    base_digest: str
    workers: list[Peer]
    self_peer: Peer = Field(description="how the workers reach this aggregator")
    dataset: str
    quorum: int = Field(ge=1, description="fewest updates that make a round")
    strategy: StrategySpec = StrategySpec()
    consensus: str = "none"
    deadline_s: float
    hyperparameters: Hyperparameters | None = Field(None, description="the workers', to judge what an audit brings")
    path: DataPath | None = Field(None, description="None: a star, the aggregator takes every update")
    fallback: str | None = Field(None, description="why the path is given up before the round begins here")
    compression: Compression = Compression()
    freeze_layers: int = 0
    secure_aggregation: bool = False
    synchronous: Hyperparameters | None = Field(
        None, description="set: `dataset` is here, and the workers average gradients on it instead of models of their own"
    )
    introductions: dict[str, list[Peer]] = Field(
        {}, description="for `synchronous`: to each worker, all workers with its own passes; to be handed on to it alone"
    )


class DropWorkers(Message):
    node_ids: list[str]


class AggregateReport(Message):
    node_id: str
    training_id: str
    round: int
    state: Literal["collecting", "done", "failed", "stopped"]
    received: list[TrainReport] = Field([], description="reports of the workers whose updates have arrived")
    accepted: list[str] = []
    rejected: dict[str, str] = Field({}, description="node id -> why its update does not count")
    late: list[str] = Field([], description="nodes whose updates had not come by the deadline; they are refused afterwards")
    notices: list[str] = Field([], description="what was unlike what was asked for, in words")
    fallback: str | None = Field(None, description="why the exchange over the workers was given up for the star")
    links: list[LinkUse] = Field([], description="of the data path that made the model, base downloads included")
    votes: list[Vote] = []
    audits: list[AuditRecord] = []
    consensus_distance: float | None = Field(
        None, description="gossip: mean distance of the workers' models from their mean, over the mean's own norm"
    )
    digest: str | None = None
    aggregate_seconds: float | None = None
    consensus_seconds: float | None = None
    bytes_received: int | None = None
    validation: EvaluationResult | None = Field(
        None, description="new global model on the aggregator's validation file, if it has one"
    )
    decisions: list[Decision] = Field([], description="the aggregator's own")
    problem: AgentProblem | None = None


class ExchangeResult(Message):
    """What an exchange gave one worker: a mean that the aggregator may pull by its digest, or a problem."""

    report: TrainReport
    digest: str | None = Field(None, description="of the mean; None for a member of a group, whose head has it")
    samples: int = Field(0, description="training samples that the mean stands for")
    problem: AgentProblem | None = None

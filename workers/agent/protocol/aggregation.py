"""One round at the aggregator: the request, and its report."""

from typing import Literal

from pydantic import Field

from workers.agent.protocol.common import AgentProblem, Decision, LinkUse, Message, ModelSpec, Peer
from workers.agent.protocol.consensus import AuditRecord, Vote
from workers.agent.protocol.data import DataFormat
from workers.agent.protocol.exchange import DataPath
from workers.agent.protocol.inference import EvaluationResult
from workers.agent.protocol.training import Compression, Hyperparameters, TrainReport


class StrategySpec(Message):
    """How updates become the next global model.

    Only the parameters of the named strategy are set.
    """

    name: str = "fedavg"
    server_learning_rate: float | None = None
    server_momentum: float | None = None
    server_beta_1: float | None = None
    server_beta_2: float | None = None
    server_tau: float | None = None
    trim_fraction: float | None = None
    byzantine_count: int | None = None


class AggregateRound(Message):
    """Collect the updates of a round and make the next global model of them."""

    training_id: str
    round: int = Field(ge=1)
    model: ModelSpec
    base_digest: str
    workers: list[Peer]
    self_peer: Peer = Field(description="The address at which the workers reach this aggregator.")
    dataset: str = Field(description="Path of the workers' shards; for `synchronous`, of the data at the aggregator.")
    data_format: DataFormat = DataFormat()
    quorum: int = Field(ge=1, description="Fewest updates that complete a round.")
    strategy: StrategySpec = StrategySpec()
    consensus: str = "none"
    deadline_s: float = Field(description="Seconds that the aggregator waits for updates.")
    hyperparameters: Hyperparameters | None = Field(None, description="Those of the workers; audits check against them.")
    path: DataPath | None = Field(None, description="None: every update goes to the aggregator (a star).")
    fallback: str | None = Field(None, description="Why this round uses the star instead of `path`.")
    compression: Compression = Compression()
    freeze_layers: int = 0
    secure_aggregation: bool = False
    synchronous: Hyperparameters | None = Field(
        None, description="set: the data is at the aggregator, and the workers average gradients instead of models."
    )
    introductions: dict[str, list[Peer]] = Field(
        {}, description="`synchronous`: node id -> all workers, with tokens for that node; only that node may see them."
    )


class DropWorkers(Message):
    """Do not wait for the updates of these workers."""

    node_ids: list[str]


class AggregateReport(Message):
    """The state of a round at the aggregator. Times are in seconds."""

    node_id: str
    training_id: str
    round: int
    state: Literal["collecting", "done", "failed", "stopped"]
    received: list[TrainReport] = Field([], description="Reports of the workers whose updates have arrived.")
    accepted: list[str] = []
    rejected: dict[str, str] = Field({}, description="Node id -> why its update is rejected.")
    late: list[str] = Field([], description="Nodes that missed the deadline; their updates are refused afterwards.")
    notices: list[str] = Field([], description="Differences from the request, in words.")
    fallback: str | None = Field(None, description="Why the round used the star instead of its path.")
    links: list[LinkUse] = Field([], description="Transfers of the round, downloads of the base included.")
    votes: list[Vote] = []
    audits: list[AuditRecord] = []
    consensus_distance: float | None = Field(
        None, description="gossip: mean distance of the workers' models from their mean, over the norm of the mean."
    )
    digest: str | None = Field(None, description="Of the new global model.")
    aggregate_seconds: float | None = None
    consensus_seconds: float | None = None
    bytes_received: int | None = None
    validation: EvaluationResult | None = Field(
        None, description="Metrics of the new global model on the aggregator's validation file, if there is one."
    )
    decisions: list[Decision] = Field([], description="Decisions of the aggregator itself.")
    problem: AgentProblem | None = None


class ExchangeResult(Message):
    """The result of an exchange at one worker: a mean, or a problem.

    The aggregator may fetch the mean by its digest.
    """

    report: TrainReport
    digest: str | None = Field(None, description="Of the mean; None for a group member, because the head has it.")
    samples: int = Field(0, description="Training samples of all workers in the mean.")
    problem: AgentProblem | None = None

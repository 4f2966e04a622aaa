"""Local training at a worker, and the preparation of a training."""

from typing import Literal

from pydantic import Field

from workers.agent.protocol.common import AgentProblem, Autonomy, Decision, LinkUse, Message, ModelSpec, Peer
from workers.agent.protocol.data import DataFormat
from workers.agent.protocol.exchange import DataPath

# Part of a worker's samples that is not trained on.
HELD_OUT_FRACTION = 0.1


class CheckShard(Message):
    """Check whether a worker's data can be used for training."""

    dataset: str = Field(description="Absolute path or glob inside the sandbox.")
    data_format: DataFormat = DataFormat()
    labelled: bool = Field(True, description="Whether every sample needs a label.")


class EncodeShard(Message):
    """Write a shard's token ids to disk, where the rounds find them."""

    model: ModelSpec
    dataset: str
    data_format: DataFormat = DataFormat()
    hold_out: bool = True


class ShardReport(Message):
    """The contents of a shard as counts, never as data. While the agent reads, how far it is.

    Bytes are those of the files as they are stored.
    """

    node_id: str
    state: Literal["running", "done"] = "done"
    bytes_read: int = 0
    bytes_total: int = 0
    rows: int = Field(0, description="Rows that were read so far.")
    idle_seconds: float = Field(0.0, description="Seconds since the last bytes were read.")
    files: int = 0
    samples: int = 0
    skipped: int = Field(0, description="Rows that could not be used and were left out.")
    labels: dict[str, int] = Field({}, description="Label -> number of its samples.")
    problem: AgentProblem | None = None


class ImportModel(Message):
    """Read an exported model from the aggregator's sandbox, and store it as a global model."""

    training_id: str
    path: str = Field(description="The export's folder or its tar.")
    sha256: str | None = Field(None, description="Digest of the tar; null if it is not known.")
    discard: bool = Field(False, description="Whether to delete the tar afterwards.")
    model: ModelSpec = Field(description="What it must fit. Its labels do not matter.")


class ImportModelResult(Message):
    """The model that was stored: its classes in output order, and its digest."""

    labels: list[str]
    digest: str


class InitialWeights(Message):
    """A model that the aggregator holds, from which a training begins."""

    digest: str
    model: ModelSpec = Field(description="The network of that model, with its labels.")


class InitTraining(Message):
    """Create the first global model of a training, or restore a later one."""

    training_id: str
    model: ModelSpec
    base_digest: str | None = Field(None, description="Global model to continue from; None creates a new one.")
    sources: list[Peer] = Field([], description="Agents that may have a copy of base_digest.")
    initial: InitialWeights | None = Field(None, description="What a new global model is made of; None: the spec's seed.")
    validation: str | None = Field(None, description="Path or glob of a labelled validation file; it may be missing.")
    data_format: DataFormat = DataFormat()
    freeze_layers: int = 0
    private: bool = Field(False, description="Whether the workers will train with differential privacy.")


class InitTrainingResult(Message):
    """The global model that the training starts from. `bytes` is the size of its file."""

    digest: str
    parameters: int
    bytes: int
    validation_samples: int | None = None
    problem: AgentProblem | None = None


class Compression(Message):
    """How a worker compresses its update.

    A compressed update holds the difference from the base model.
    """

    values: Literal["fp32", "fp16", "int8"] = "fp32"
    sparse: bool = False
    ratio: float = Field(1.0, gt=0, le=1, description="Fraction of the values that a sparse update keeps.")

    @property
    def is_none(self) -> bool:
        return self.values == "fp32" and not self.sparse


class DpSgdSpec(Message):
    """DP-SGD of one worker for one round.

    Each of its `samples` records takes part in a step with probability `sampling_rate`.
    """

    samples: int
    sampling_rate: float = Field(gt=0, le=1)
    noise_multiplier: float = Field(ge=0, description="Standard deviation of the noise, divided by `max_grad_norm`.")
    max_grad_norm: float = Field(gt=0)
    steps: int = Field(ge=1, description="Steps of this round.")


class Hyperparameters(Message):
    """How a worker trains in one round."""

    local_epochs: int = 1
    batch_size: int
    learning_rate: float
    optimizer: Literal["adam", "adamw", "sgd", "rmsprop", "adagrad"]
    weight_decay: float = 0.0
    seed: int = 0
    proximal_mu: float = Field(0.0, description="FedProx: weight of the proximal term towards the round's base.")
    keep_moments: bool = Field(False, description="DiLoCo: continue with the optimizer state of this worker's last round.")
    mixed_precision: bool = False
    freeze_layers: int = Field(0, ge=0, description="Encoder layers to freeze, with the embeddings; 0 trains all.")
    hold_out: bool = Field(True, description="False: train on all samples.")
    privacy: DpSgdSpec | None = Field(None, description="Train with differential privacy; then nothing is held out.")


class LocalWork(Message):
    """The work of one round. The result depends on this and on the worker's shard only."""

    training_id: str
    round: int = Field(ge=1)
    model: ModelSpec
    base_digest: str
    dataset: str
    data_format: DataFormat = DataFormat()
    hyperparameters: Hyperparameters


class TrainRound(LocalWork):
    """Train locally for one round, and deliver the update."""

    aggregator: Peer
    consensus: str = "none"
    autonomy: Autonomy = Autonomy()
    path: DataPath | None = Field(None, description="None: the update goes to the aggregator (a star).")
    resend: bool = Field(False, description="If the round is done, send its update again; the aggregator has lost it.")
    compression: Compression = Compression()
    secure_aggregation: bool = Field(False, description="Mask the update, so that the aggregator learns only the sum.")

    @property
    def work(self) -> LocalWork:
        """Return the part that may be written to disk. It has no tokens."""
        return LocalWork(**{name: getattr(self, name) for name in LocalWork.model_fields})


class Commitment(Message):
    """Proof of learning: a hash chain over a worker's training.

    It starts from the base's digest and the seed. Each link adds a segment: the digest of its last
    state, its loss, its steps and its trace.
    """

    seed: str = Field(description="Seed of the order of the batches.")
    segments: list[str] = Field(description="Digest of the state after each segment of steps, in order.")
    losses: list[float] = Field(description="Mean training loss of each segment, in nats.")
    steps: list[int] = Field(description="Optimizer steps of each segment; 0 where compression changed the state.")
    traces: list[str] = Field(description="For each segment, the digest of the fingerprints of its steps.")
    root: str = Field(description="Last link of the chain.")


class ReplicateResult(Message):
    """The agent has the model."""

    node_id: str
    digest: str
    links: list[LinkUse] = []


class TrainReport(Message):
    """The state of local training at a worker. It never holds data."""

    node_id: str
    training_id: str
    round: int
    state: Literal["running", "done", "failed", "stopped", "declined"]
    progress: float = Field(0.0, description="Fraction of this round's steps, 0..1.")
    samples: int | None = Field(None, description="Training samples in the shard, without held-out ones.")
    loss: float | None = Field(None, description="Mean cross-entropy over the last local epoch, in nats.")
    accuracy: float | None = Field(None, description="Accuracy during the last local epoch, 0..1.")
    pull_seconds: float | None = None
    train_seconds: float | None = None
    push_seconds: float | None = None
    bytes_sent: int | None = None
    commitment: Commitment | None = None
    private_steps: int | None = Field(None, description="DP-SGD: steps that this round has spent here, with repetitions.")
    decisions: list[Decision] = []
    links: list[LinkUse] = Field([], description="Transfers from other agents to this worker.")
    replica: ReplicateResult | None = Field(None, description="This worker's copy of the round's new global model.")
    problem: AgentProblem | None = None


class ReplicateModel(Message):
    """Copy a global model to this agent, so that the model survives a loss of the aggregator."""

    training_id: str
    digest: str
    source: Peer = Field(description="Agent that has the model.")
    head: Peer | None = Field(None, description="Head of the worker's group; the worker asks it first.")

"""Local training at a worker, and what it needs before."""

from typing import Literal

from pydantic import Field

from workers.agent.protocol.common import AgentProblem, Autonomy, Decision, LinkUse, Message, ModelSpec, Peer
from workers.agent.protocol.exchange import DataPath

HELD_OUT_FRACTION = 0.1


class CheckShard(Message):
    dataset: str = Field(description="absolute path or glob inside the sandbox")
    labelled: bool = True


class ShardReport(Message):
    """What a shard holds, by counts only."""

    node_id: str
    files: int = 0
    samples: int = 0
    labels: dict[str, int] = {}
    problem: AgentProblem | None = None


class InitTraining(Message):
    training_id: str
    model: ModelSpec
    base_digest: str | None = Field(None, description="continue from this global model; None starts a new one")
    sources: list[Peer] = Field([], description="agents that may have a copy of base_digest")
    validation: str | None = Field(None, description="path or glob of a labelled validation file; optional even when named")
    freeze_layers: int = 0
    private: bool = Field(False, description="whether the workers will train with differential privacy")


class InitTrainingResult(Message):
    digest: str
    parameters: int
    bytes: int
    validation_samples: int | None = None
    problem: AgentProblem | None = None


class Compression(Message):
    """How an update shrinks on its way from worker to aggregator. A compressed one is a difference to the base model."""

    values: Literal["fp32", "fp16", "int8"] = "fp32"
    sparse: bool = False
    ratio: float = Field(1.0, gt=0, le=1, description="share of the values that a sparse update keeps")

    @property
    def is_none(self) -> bool:
        return self.values == "fp32" and not self.sparse


class DpSgdSpec(Message):
    """DP-SGD of one worker for one round: each of its `samples` records joins a step with probability `sampling_rate`."""

    samples: int
    sampling_rate: float = Field(gt=0, le=1)
    noise_multiplier: float = Field(ge=0, description="standard deviation of the noise over `max_grad_norm`")
    max_grad_norm: float = Field(gt=0)
    steps: int = Field(ge=1, description="of this round")


class Hyperparameters(Message):
    local_epochs: int = 1
    batch_size: int
    learning_rate: float
    optimizer: Literal["adam", "adamw", "sgd", "rmsprop", "adagrad"]
    weight_decay: float = 0.0
    seed: int = 0
    proximal_mu: float = Field(0.0, description="FedProx: weight of the pull towards the round's base")
    keep_moments: bool = Field(False, description="DiLoCo: the optimizer's state goes on from this worker's last round")
    mixed_precision: bool = False
    freeze_layers: int = Field(0, ge=0, description="embeddings and so many encoder layers stay as they are; 0 trains all")
    hold_out: bool = Field(True, description="false: train on all samples")
    privacy: DpSgdSpec | None = Field(None, description="train with differential privacy; nothing is held out then")


class LocalWork(Message):
    """What a worker computes in a round: all that its result depends on, beside its shard."""

    training_id: str
    round: int = Field(ge=1)
    model: ModelSpec
    base_digest: str
    dataset: str
    hyperparameters: Hyperparameters


class TrainRound(LocalWork):
    aggregator: Peer
    consensus: str = "none"
    autonomy: Autonomy = Autonomy()
    path: DataPath | None = Field(None, description="None: a star, the update goes to the aggregator")
    resend: bool = Field(False, description="a round that is done: send its update again, the aggregator has lost it")
    compression: Compression = Compression()
    secure_aggregation: bool = Field(False, description="send the update masked; the aggregator learns the sum alone")

    @property
    def work(self) -> LocalWork:
        """May be kept on the sandbox's disk, where passes may not."""
        return LocalWork(**{name: getattr(self, name) for name in LocalWork.model_fields})


class Commitment(Message):
    """Proof-of-learning: a hash chain over base digest, batch-order seed, and each segment's end, loss, steps and trace."""

    seed: str = Field(description="what the batches' order was drawn from")
    segments: list[str] = Field(description="digest of the state after each segment of steps, in order")
    losses: list[float] = Field(description="mean training loss of each segment")
    steps: list[int] = Field(description="optimizer steps of each segment; 0: compression changed the state on its way")
    traces: list[str] = Field(description="digest of the fingerprints of each segment's steps")
    root: str = Field(description="last link of the chain")


class TrainReport(Message):
    node_id: str
    training_id: str
    round: int
    state: Literal["running", "done", "failed", "stopped", "declined"]
    progress: float = Field(0.0, description="0..1 of this round's steps")
    samples: int | None = Field(None, description="training samples in the shard, held-out ones excluded")
    loss: float | None = Field(None, description="mean cross-entropy over the last local epoch, in nats")
    accuracy: float | None = Field(None, description="fraction right over the last local epoch, while training")
    pull_seconds: float | None = None
    train_seconds: float | None = None
    push_seconds: float | None = None
    bytes_sent: int | None = None
    commitment: Commitment | None = None
    private_steps: int | None = Field(None, description="DP-SGD: steps that this round has spent here, repetitions included")
    decisions: list[Decision] = []
    links: list[LinkUse] = Field([], description="what this worker took from others")
    problem: AgentProblem | None = None


class ReplicateModel(Message):
    """Have a copy of a global model, so that it outlives the aggregator's sandbox."""

    training_id: str
    digest: str
    source: Peer
    head: Peer | None = Field(None, description="the head of the worker's group, which is asked first")


class ReplicateResult(Message):
    node_id: str
    digest: str
    links: list[LinkUse] = []

"""Shapes of trainings and rounds."""

from collections.abc import Sequence
from typing import Any, Final

from pydantic import ConfigDict, Field

from api.domain import privacy as domain_privacy
from api.domain import strategies
from api.domain.errors import FieldError, InvalidError
from api.domain.paths import check_path
from api.domain.specs import Compression, Optimizer, Schedule, TrainingSpec
from api.domain.strategies import Strategy
from api.schemas.base import Failure, RequestModel, ResponseModel, StopReason, Timestamp
from api.store.tables import RoundNodeRow, RoundRow, TrainingRow

DEFAULT_RATIO: Final = 0.05
DEFAULT_RANK: Final = 8


class DifferentialPrivacyCreate(RequestModel):
    """DP-SGD at every worker: each record's gradient is clipped and Gaussian noise is added before anything leaves. Give one
    of `target_epsilon` and `noise_multiplier`."""

    target_epsilon: float | None = Field(None, gt=0, le=1000, description="noise is chosen so that all epochs end there")
    noise_multiplier: float | None = Field(
        None, ge=0.1, le=1000, description="standard deviation of the noise over max_grad_norm"
    )
    max_grad_norm: float = Field(1.0, gt=0, le=1e6, description="Euclidean norm that each record's gradient is clipped to")
    delta: float | None = Field(
        None, gt=0, lt=1, description="null: 1 / (10 n), n the records of the largest shard as the training begins"
    )


class TrainingCreate(RequestModel):
    dataset: str = Field(
        description="path or glob inside each worker's sandbox; with federated false inside the aggregator's",
        examples=["/data/train_*.json"],
    )
    epochs: int = Field(ge=1, le=10_000)
    batch_size: int = Field(32, ge=1, le=4096)
    learning_rate: float = Field(0.001, gt=0, le=10)
    schedule: Schedule = Field("cosine", description="how the learning rate goes from round to round: cosine, or constant")
    optimizer: Optimizer = "adam"
    federated: bool = Field(
        True,
        description="false: synchronous data-parallel training on one pooled data set in the aggregator's sandbox. Its samples "
        "(as token ids and classes) leave that sandbox for the workers' sandboxes, in equal shares, kept in memory only; each "
        "step, gradients are averaged over the cluster's topology. Data in the workers' own sandboxes is not used. Needs "
        "consensus none, strategy fedavg, no compression and no frozen layers",
    )
    local_epochs: int = Field(1, ge=1, le=1000, description="epochs that a worker trains between two averages")
    seed: int = Field(0, ge=0, le=2**31 - 1)
    strategy: Strategy = Field(
        "fedavg",
        description="how updates become the next global model; median, trimmed_mean, krum, multi_krum and bulyan bear with "
        "malicious workers, diloco trains with adamw",
    )
    weight_decay: float = Field(0.0, ge=0, le=1)
    max_length: int = Field(128, ge=8, le=512, description="tokens of a text that count; longer texts are cut")
    validation: str = Field(
        "/data/validation*.json",
        description="path or glob in the aggregator's and the validators' sandboxes; used if it exists",
    )
    hold_out: bool = Field(
        True,
        description="keep a tenth of each worker's samples out of training: validation where there is no validation file, "
        "temperatures, weights and committee votes are measured on them. false trains on all, as differential privacy does; "
        "what is measured then, is measured on the validation file, or null",
    )

    server_learning_rate: float | None = Field(
        None, gt=0, le=10, description="fedavgm (1), fedadam, fedyogi, fedadagrad (0.01), diloco (0.7): the server's step"
    )
    server_momentum: float | None = Field(None, ge=0, lt=1, description="fedavgm, diloco (0.9): the server's momentum")
    server_beta_1: float | None = Field(None, ge=0, lt=1, description="fedadam, fedyogi (0.9), fedadagrad (0)")
    server_beta_2: float | None = Field(None, ge=0, lt=1, description="fedadam, fedyogi (0.99)")
    server_tau: float | None = Field(None, gt=0, le=1, description="fedadam, fedyogi, fedadagrad (0.001): adaptivity")
    proximal_mu: float | None = Field(None, ge=0, le=100, description="fedprox (0.01): weight of the proximal term")
    trim_fraction: float | None = Field(
        None, gt=0, lt=0.5, description="trimmed_mean (0.25): share of the values that is left out at each end"
    )
    byzantine_count: int | None = Field(
        None,
        ge=1,
        le=1000,
        description="krum, multi_krum (n >= 2f+3), bulyan (n >= 4f+3): malicious workers f (1)",
    )

    fraction: float = Field(1.0, gt=0, le=1, description="share of the workers that is drawn for each round, by the seed")
    min_workers: int = Field(1, ge=1, le=10_000, description="fewest workers that are drawn for a round")
    round_deadline_s: float | None = Field(
        None, ge=1, le=86_400, description="a round ends by then with the updates that have come; null: the deployment's"
    )
    quorum: float | None = Field(
        None, gt=0, le=1, description="share of a round's workers whose updates make the round; null: the deployment's"
    )

    target_accuracy: float | None = Field(
        None, gt=0, le=1, description="end after a round whose validation_accuracy is at least this"
    )
    patience: int | None = Field(
        None, ge=1, le=10_000, description="end after so many rounds without a better validation_accuracy"
    )
    budget_usd: float | None = Field(
        None, gt=0, le=1e9, description="end before a round that would cost more than this, judged by the last round"
    )
    max_minutes: float | None = Field(
        None, gt=0, le=1e6, description="end before a round that would take longer than this, judged by the last round"
    )

    mixed_precision: bool = Field(
        False, description="train in bf16 where a node's hardware has it; a node without says so in its `decisions`"
    )
    freeze_layers: int = Field(
        0, ge=0, le=1000, description="keep the embeddings and so many encoder layers as they are; 0 trains everything"
    )
    compression: Compression | None = Field(
        None,
        description="how updates shrink on their way to the aggregator: fp16, int8 (stochastic rounding), topk (the largest"
        " values; the rest is made up for later), topk+fp16, topk+int8, lora (only low-rank adapters are trained and sent),"
        " lora+fp16, lora+int8. Models travel back to the workers in fp32",
    )
    compression_ratio: float | None = Field(
        None, gt=0, le=1, description=f"topk: the share of values that are sent; {DEFAULT_RATIO} where absent"
    )
    lora_rank: int | None = Field(None, ge=1, le=256, description=f"lora: rank of the adapters; {DEFAULT_RANK} where absent")
    differential_privacy: DifferentialPrivacyCreate | None = Field(
        None, description="hide whether any one record was in a worker's shard; `privacy` says what was spent"
    )
    secure_aggregation: bool = Field(
        False, description="the aggregator sees the sum of the workers' updates and none by itself; from 3 workers on"
    )
    gradient_compression: bool | None = Field(None, description="true without `compression` is `topk`, false is `none`")

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "dataset": "/data/train_*.json",
                    "epochs": 50,
                    "batch_size": 32,
                    "learning_rate": 0.001,
                    "optimizer": "adam",
                    "federated": True,
                }
            ]
        }
    )

    def spec(self) -> TrainingSpec:
        fields = self.model_dump(exclude={"gradient_compression"})
        fields |= self._compression()
        fields["dataset"] = check_path(self.dataset, "/dataset", glob=True)
        fields["validation"] = check_path(self.validation, "/validation", glob=True)
        given = {name: fields[name] for name in strategies.PARAMETERS if fields[name] is not None}
        fields.update(strategies.parameters(self.strategy, given))
        if self.strategy == "diloco":
            fields["optimizer"] = self._inner_optimizer()
        if self.differential_privacy is not None:
            fields["differential_privacy"] = domain_privacy.PrivacySpec(**self.differential_privacy.model_dump())
            fields["differential_privacy"].check()
        return TrainingSpec(**fields)

    def _inner_optimizer(self) -> Optimizer:
        if "optimizer" in self.model_fields_set and self.optimizer != "adamw":
            message = f"diloco's inner optimizer is 'adamw', not {self.optimizer!r}; leave it out or give 'adamw'"
            raise InvalidError("optimizer_of_diloco", message, errors=(FieldError("/optimizer", message),))
        return "adamw"

    def _compression(self) -> dict[str, Any]:
        word = self.compression or ("topk" if self.gradient_compression else "none")
        if self.gradient_compression is not None and self.gradient_compression != (word != "none"):
            raise _contradiction("/gradient_compression", f"it says the opposite of compression {word!r}")
        sparse, adapters = word.startswith("topk"), word.startswith("lora")
        if self.compression_ratio is not None and not sparse:
            raise _contradiction("/compression_ratio", "only topk sends a share of the values")
        if self.lora_rank is not None and not adapters:
            raise _contradiction("/lora_rank", "only lora has adapters")
        return {
            "compression": word,
            "compression_ratio": (self.compression_ratio or DEFAULT_RATIO) if sparse else None,
            "lora_rank": (self.lora_rank or DEFAULT_RANK) if adapters else 0,
        }


def _contradiction(pointer: str, message: str) -> InvalidError:
    return InvalidError("invalid_request", message, errors=(FieldError(pointer, message),))


class DifferentialPrivacy(ResponseModel):
    target_epsilon: float | None
    noise_multiplier: float | None
    max_grad_norm: float
    delta: float | None


class WorkerPrivacy(ResponseModel):
    epsilon: float | None = Field(description="spent so far: every round that was begun with this worker counts")
    samples: int = Field(description="records that its plan was made for")
    sampling_rate: float = Field(description="probability of each record to be in a step's batch")
    noise_multiplier: float
    steps_per_epoch: int


class TrainingPrivacy(ResponseModel):
    """(epsilon, delta)-differential privacy, neighbours differing by one record of one worker, by a Renyi accountant. It
    covers the updates and all that is made of them; not counts of samples, the set of labels, and durations."""

    epsilon: float = Field(description="of the worker that has spent most")
    delta: float
    workers: dict[str, WorkerPrivacy]

    @classmethod
    def of(cls, row: TrainingRow) -> "TrainingPrivacy | None":
        if row.privacy is None:
            return None
        spent: dict[str, float] = row.privacy["epsilon"]
        plans: dict[str, dict[str, Any]] = row.privacy["plans"]
        workers = {node_id: WorkerPrivacy(epsilon=spent.get(node_id), **plan) for node_id, plan in plans.items()}
        return cls(epsilon=domain_privacy.epsilon_of(spent), delta=row.privacy["delta"], workers=workers)


class TrainingConfig(ResponseModel):
    epochs: int
    batch_size: int
    learning_rate: float
    schedule: Schedule
    optimizer: Optimizer
    federated: bool
    dataset: str
    local_epochs: int
    seed: int
    strategy: Strategy
    weight_decay: float
    max_length: int
    validation: str
    hold_out: bool

    server_learning_rate: float | None = Field(None, description="this and what follows: null where the strategy has no such")
    server_momentum: float | None = None
    server_beta_1: float | None = None
    server_beta_2: float | None = None
    server_tau: float | None = None
    proximal_mu: float | None = None
    trim_fraction: float | None = None
    byzantine_count: int | None = None

    fraction: float = 1.0
    min_workers: int = 1
    round_deadline_s: float | None = None
    quorum: float | None = None

    target_accuracy: float | None = None
    patience: int | None = None
    budget_usd: float | None = None
    max_minutes: float | None = None

    mixed_precision: bool
    freeze_layers: int
    compression: Compression
    compression_ratio: float | None
    lora_rank: int = Field(description="0: no adapters")

    differential_privacy: DifferentialPrivacy | None = None
    secure_aggregation: bool = False


class Training(ResponseModel):
    training_id: str = Field(examples=["train_fed_gh789"])
    cluster_id: str
    search_id: str | None = Field(description="the search that it is one of")
    status: str = Field(description="pending, training, stopping, completed, refused, stopped or failed")
    config: TrainingConfig
    workers: list[str]
    aggregator: str
    term: int = Field(description="consensus raft: counts the elections of an aggregator, from 1")
    model: str
    labels: list[str] | None = Field(description="class names; null until the workers' data was checked")
    parameters: int | None = Field(description="trainable parameters of the model")
    completed_rounds: int
    privacy: TrainingPrivacy | None = Field(description="null without differential privacy, and until the data was checked")
    created_at: Timestamp
    started_at: Timestamp | None
    finished_at: Timestamp | None
    stop_reason: StopReason | None
    error: Failure | None

    @classmethod
    def of(cls, row: TrainingRow) -> "Training":
        return cls(
            training_id=row.id,
            cluster_id=row.cluster_id,
            search_id=row.search_id,
            status=row.status,
            config=TrainingConfig(**row.config),
            workers=row.workers,
            aggregator=row.aggregator_id,
            term=row.term,
            model=row.model,
            labels=row.labels,
            parameters=row.parameters,
            completed_rounds=row.completed_rounds,
            privacy=TrainingPrivacy.of(row),
            created_at=row.created_at,
            started_at=row.started_at,
            finished_at=row.finished_at,
            stop_reason=StopReason.of(row.stop_reason),
            error=Failure.of(row.error),
        )


class RoundPrivacy(ResponseModel):
    """What differential privacy has cost one worker. `steps` are this round's, repetitions included; `epsilon` is that of all
    rounds until this one."""

    epsilon: float
    steps: int
    sampling_rate: float
    noise_multiplier: float

    @classmethod
    def of(cls, record: dict[str, Any] | None) -> "RoundPrivacy | None":
        if record is None:
            return None
        last = record["parts"][-1]
        return cls(
            epsilon=record["epsilon"],
            steps=sum(part["steps"] for part in record["parts"]),
            sampling_rate=last["sampling_rate"],
            noise_multiplier=last["noise_multiplier"],
        )


class RoundWorker(ResponseModel):
    state: str = Field(description="training, done, rejected, late, failed, lost, declined or not_sampled")
    samples: int | None
    local_loss: float | None
    local_accuracy: float | None
    train_seconds: float | None
    bytes_sent: int | None
    reason: str | None
    commitment: dict[str, Any] | None = Field(description="proof-of-learning: hash chain over the worker's checkpoints")
    privacy: RoundPrivacy | None
    decisions: list[dict[str, Any]] = Field(description="what the node decided by itself, and why")

    @classmethod
    def of(cls, row: RoundNodeRow) -> "RoundWorker":
        fields = {name: getattr(row, name) for name in RoundWorker.model_fields if name != "privacy"}
        return RoundWorker(privacy=RoundPrivacy.of(row.privacy), **fields)


class Link(ResponseModel):
    """Bytes that went from one node to another, and the seconds they took from a body's first byte to its last."""

    from_: str = Field(alias="from", examples=["node_w1_abc123"])
    to: str
    bytes: int
    seconds: float

    model_config = ConfigDict(extra="forbid", serialize_by_alias=True)


class Round(ResponseModel):
    round: int
    status: str = Field(description="running, completed, failed or stopped")
    started_at: Timestamp
    finished_at: Timestamp | None
    base_digest: str = Field(description="sha256 of the global model that the round began with")
    digest: str | None = Field(description="sha256 of the global model that it made")
    global_loss: float | None
    global_accuracy: float | None
    validation_loss: float | None
    validation_accuracy: float | None
    validation_samples: int | None
    validation_source: str | None = Field(description="validation_data or held_out_splits")
    bytes_received: int | None = Field(description="bytes of updates that reached the aggregator")
    compression_ratio: float | None = Field(
        description="bytes_received over the bytes of as many whole fp32 models: 1 = nothing was saved"
    )
    seconds: float | None = Field(description="wall-clock, everything included")
    train_seconds: float | None = Field(description="of the slowest worker")
    aggregate_seconds: float | None
    consensus_seconds: float | None
    consensus_distance: float | None = Field(
        description="gossip: mean distance of the workers' models from their mean, over the mean's norm; 0 = they agree"
    )
    evaluate_seconds: float | None
    copies: list[str] = Field(description="workers that held the new model when the round was recorded")
    votes: list[dict[str, Any]]
    audits: list[dict[str, Any]] = Field(
        description="proof-of-learning: workers that were asked to do a segment of their round again, and what came of it"
    )
    late_updates: int | None = Field(description="updates that had not come by the deadline, and so were dropped")
    data_path: str | None = Field(description="how the updates became one model: mesh, ring, star, hierarchical or gossip")
    data_path_reason: str | None = Field(description="why it is a star although the cluster's topology is another")
    fallback: str | None = Field(description="why the data path was given up in mid-round and the updates went the star's way")
    links: list[Link] = Field(description="what went from node to node for this round's model, downloads of its base included")
    notices: list[str] = Field(description="what was unlike what was asked for, in words")
    workers: dict[str, RoundWorker]
    error: Failure | None

    @classmethod
    def of(cls, row: RoundRow, nodes: Sequence[RoundNodeRow]) -> "Round":
        fields = {name: getattr(row, name) for name in cls.model_fields if name not in ("round", "workers", "error")}
        workers = {node.node_id: RoundWorker.of(node) for node in nodes}
        return cls(round=row.number, workers=workers, error=Failure.of(row.error), **fields)


class RoundList(ResponseModel):
    items: list[Round] = Field(description="by number, oldest first")
    next_cursor: str | None

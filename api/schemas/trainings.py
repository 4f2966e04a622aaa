"""Shapes of trainings and rounds."""

from collections.abc import Sequence
from typing import Any, Final

from pydantic import ConfigDict, Field, model_validator

from api.domain.errors import FieldError, InvalidError, unavailable
from api.domain.paths import check_path
from api.domain.specs import Compression, Optimizer, Schedule, TrainingSpec
from api.schemas.base import Failure, Request, Shape, StopReason, Timestamp, Word
from api.store.models import RoundNodeRow, RoundRow, TrainingRow

_NOT_YET: Final = frozenset(
    {
        "fraction",
        "min_workers",
    }
)


DEFAULT_RATIO: Final = 0.05
DEFAULT_RANK: Final = 8


class TrainingCreate(Request):
    dataset: str = Field(description="path or glob inside each worker's sandbox", examples=["/data/train_*.json"])
    epochs: int = Field(ge=1, le=10_000)
    batch_size: int = Field(32, ge=1, le=4096)
    learning_rate: float = Field(0.001, gt=0, le=10)
    schedule: Schedule = Field("cosine", description="how the learning rate goes from round to round: cosine, or constant")
    optimizer: Optimizer = "adam"
    federated: bool = True
    local_epochs: int = Field(1, ge=1, le=1000, description="epochs that a worker trains between two averages")
    seed: int = Field(0, ge=0, le=2**31 - 1)
    strategy: Word = Field("fedavg", description="fedavg: McMahan et al. 2017, arXiv:1602.05629")
    weight_decay: float = Field(0.0, ge=0, le=1)
    max_length: int = Field(128, ge=8, le=512, description="tokens of a text that count; longer texts are cut")
    validation: str = Field(
        "/data/validation*.json",
        description="path or glob in the aggregator's and the validators' sandboxes; used if it exists",
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

    @model_validator(mode="before")
    @classmethod
    def _known_but_not_built(cls, data: Any) -> Any:
        if isinstance(data, dict):
            for field in sorted(_NOT_YET & data.keys()):
                raise unavailable(f"/{field}", field, "this option is not built yet")
        return data

    def spec(self) -> TrainingSpec:
        fields = self.model_dump(exclude={"gradient_compression"})
        fields |= self._compression()
        fields["dataset"] = check_path(self.dataset, "/dataset", glob=True)
        fields["validation"] = check_path(self.validation, "/validation", glob=True)
        return TrainingSpec(**fields)

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


class TrainingConfig(Shape):
    epochs: int
    batch_size: int
    learning_rate: float
    schedule: Schedule
    optimizer: Optimizer
    federated: bool
    dataset: str
    local_epochs: int
    seed: int
    strategy: str
    weight_decay: float
    max_length: int
    validation: str

    target_accuracy: float | None = None
    patience: int | None = None
    budget_usd: float | None = None
    max_minutes: float | None = None

    mixed_precision: bool
    freeze_layers: int
    compression: Compression
    compression_ratio: float | None
    lora_rank: int = Field(description="0: no adapters")


class Training(Shape):
    training_id: str = Field(examples=["train_fed_gh789"])
    cluster_id: str
    status: str = Field(description="pending, training, stopping, completed, refused, stopped or failed")
    config: TrainingConfig
    workers: list[str]
    aggregator: str
    model: str
    labels: list[str] | None = Field(description="class names; null until the workers' data was checked")
    parameters: int | None = Field(description="trainable parameters of the model")
    completed_rounds: int
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
            status=row.status,
            config=TrainingConfig(**row.config),
            workers=row.workers,
            aggregator=row.aggregator_id,
            model=row.model,
            labels=row.labels,
            parameters=row.parameters,
            completed_rounds=row.completed_rounds,
            created_at=row.created_at,
            started_at=row.started_at,
            finished_at=row.finished_at,
            stop_reason=StopReason.of(row.stop_reason),
            error=Failure.of(row.error),
        )


class RoundWorker(Shape):
    state: str = Field(description="training, done, rejected, failed or lost")
    samples: int | None
    local_loss: float | None
    local_accuracy: float | None
    train_seconds: float | None
    bytes_sent: int | None
    reason: str | None
    commitment: dict[str, Any] | None = Field(description="proof-of-learning: hash chain over the worker's checkpoints")
    decisions: list[dict[str, Any]] = Field(description="what the node decided by itself, and why")


class Round(Shape):
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
    evaluate_seconds: float | None
    votes: list[dict[str, Any]]
    workers: dict[str, RoundWorker]
    error: Failure | None

    @classmethod
    def of(cls, row: RoundRow, nodes: Sequence[RoundNodeRow]) -> "Round":
        fields = {name: getattr(row, name) for name in cls.model_fields if name not in ("round", "workers", "error")}
        workers = {
            node.node_id: RoundWorker(**{name: getattr(node, name) for name in RoundWorker.model_fields}) for node in nodes
        }
        return cls(round=row.number, workers=workers, error=Failure.of(row.error), **fields)


class RoundList(Shape):
    items: list[Round] = Field(description="by number, oldest first")
    next_cursor: str | None

"""Models of trainings and rounds."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pydantic import ConfigDict, Field, GetJsonSchemaHandler
from pydantic_core import CoreSchema

from api.domain import exclusions, strategies
from api.domain.errors import FieldError, InvalidError
from api.domain.initial_models import InitialModel, checked_source
from api.domain.measuring import ValidationSource
from api.domain.paths import check_path
from api.domain.preparation import PreparationRecord, Stage
from api.domain.privacy import RoundPrivacyRecord
from api.domain.status import RoundState, RoundWorkerState, TrainingState
from api.domain.topology import DataPath
from api.domain.training_options import (
    DEFAULT_RANK,
    DEFAULT_RATIO,
    MOST_EPOCHS,
    Optimizer,
    PrivacyOptions,
    RequestedOptions,
)
from api.domain.training_spec import TrainingSpec
from api.schemas.base import Failure, Figure, Int64, RequestModel, ResponseModel, StopReason, Timestamp
from api.schemas.evidence import Commitment, NodeDecision, RoundAudit, RoundVote
from api.schemas.training_metrics import TrainingMetrics
from api.services.progress import remaining_seconds
from api.store.tables import RoundNodeRow, RoundRow, TrainingRow

_OPTIONS = RequestedOptions.model_fields


class DifferentialPrivacyCreate(RequestModel, PrivacyOptions):
    """DP-SGD at every worker: each record's gradient is clipped, and Gaussian noise is added.

    Give one of `target_epsilon` and `noise_multiplier`.
    """


class TrainingCreate(RequestModel, RequestedOptions):
    """The options of a training. Only `dataset` and `epochs` are required."""

    differential_privacy: DifferentialPrivacyCreate | None = Field(
        None, description=_OPTIONS["differential_privacy"].description
    )

    model_config = ConfigDict(
        json_schema_extra={
            "x-exclusions": exclusions.documented(),
            "examples": [
                {
                    "dataset": "/data/train_*.json",
                    "epochs": 50,
                    "batch_size": 32,
                    "learning_rate": 0.001,
                    "optimizer": "adam",
                    "federated": True,
                }
            ],
        }
    )

    def spec(self) -> TrainingSpec:
        """Return the requested training with defaults filled in.

        Raises:
            InvalidError: options contradict each other, or a path is not usable.
        """
        fields = self.model_dump(exclude={"gradient_compression"}) | self._compression()
        fields["dataset"] = check_path(self.dataset, "/dataset", glob=True)
        fields["validation"] = check_path(self.validation, "/validation", glob=True)
        if self.initial_model is not None:
            fields["initial_model"] = checked_source(self.initial_model)
        given = {name: fields[name] for name in strategies.PARAMETERS if fields[name] is not None}
        fields.update(strategies.parameters(self.strategy, given))
        if self.strategy == "diloco":
            fields["optimizer"] = self._inner_optimizer()
        spec = TrainingSpec.model_validate(fields)
        if spec.differential_privacy is not None:
            spec.differential_privacy.check()
        return spec

    def _inner_optimizer(self) -> Optimizer:
        # A client that fills in every default sends 'adam': it counts as absent.
        if self.optimizer not in ("adamw", _OPTIONS["optimizer"].default):
            message = f"diloco's inner optimizer is 'adamw', not {self.optimizer!r}; leave it out or give 'adamw'"
            raise InvalidError("optimizer_of_diloco", message, errors=(FieldError("/optimizer", message),))
        return "adamw"

    def _compression(self) -> dict[str, Any]:
        compression = self.compression or ("topk" if self.gradient_compression else "none")
        if self.gradient_compression is not None and self.gradient_compression != (compression != "none"):
            raise _contradiction("/gradient_compression", f"it says the opposite of compression {compression!r}")
        is_sparse, has_adapters = compression.startswith("topk"), compression.startswith("lora")
        if self.compression_ratio is not None and not is_sparse:
            raise _contradiction("/compression_ratio", "only topk sends a share of the values")
        if self.lora_rank is not None and not has_adapters:
            raise _contradiction("/lora_rank", "only lora has adapters")
        return {
            "compression": compression,
            "compression_ratio": (self.compression_ratio or DEFAULT_RATIO) if is_sparse else None,
            "lora_rank": (self.lora_rank or DEFAULT_RANK) if has_adapters else 0,
        }


class TrainingResume(RequestModel):
    """How to resume a training. An empty body continues it as it was planned."""

    epochs: int | None = Field(
        None,
        ge=1,
        le=MOST_EPOCHS,
        description="Train so many epochs after those already trained. This also extends a completed training. "
        "null: train the epochs that are left.",
        examples=[5],
    )
    model_config = ConfigDict(json_schema_extra={"examples": [{"epochs": 5}]})


def _contradiction(pointer: str, message: str) -> InvalidError:
    return InvalidError("invalid_request", message, errors=(FieldError(pointer, message),))


class DifferentialPrivacy(ResponseModel, PrivacyOptions):
    """DP-SGD at every worker, as the training has it."""


class WorkerPrivacy(ResponseModel):
    """What differential privacy has cost one worker so far."""

    epsilon: Figure | None = Field(description="Spent so far. Every round that began with this worker counts.")
    samples: Int64 = Field(description="Number of records that the worker's plan was made for.")
    sampling_rate: Figure = Field(description="Probability of each record to be in a step's batch.")
    noise_multiplier: Figure
    steps_per_epoch: Int64


class TrainingPrivacy(ResponseModel):
    """The (epsilon, delta)-differential privacy of a training, counted by a Renyi accountant.

    Neighbouring data sets differ by one record of one worker. The updates and everything computed
    from them are covered. The numbers of samples, the set of labels and durations are not.
    """

    epsilon: Figure = Field(description="The epsilon of the worker that has spent most.")
    delta: float
    workers: dict[str, WorkerPrivacy]

    @classmethod
    def of(cls, row: TrainingRow) -> "TrainingPrivacy | None":
        if row.privacy is None:
            return None
        record = row.privacy
        workers = {
            node_id: WorkerPrivacy(epsilon=record.epsilon.get(node_id), **asdict(plan))
            for node_id, plan in record.plans.items()
        }
        return cls(epsilon=record.spent_epsilon, delta=record.delta, workers=workers)


class TrainingConfig(ResponseModel, TrainingSpec):
    """The options that the training has, with defaults filled in.

    `TrainingCreate` explains them.
    """

    differential_privacy: DifferentialPrivacy | None = None  # type: ignore[assignment]

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        reference = super().__get_pydantic_json_schema__(schema, handler)
        for name, field in handler.resolve_ref_schema(reference)["properties"].items():  # untyped: a JSON schema
            if name in _OPTIONS:
                field.pop("description", None)
        return reference


class InitialModelInfo(ResponseModel):
    """The model that a training began from."""

    source: str = Field(description="The request's `initial_model`.", examples=["mdl_4k2j9x"])
    digest: str = Field(description="SHA-256 of its tensors as a file of a global model.")
    labels: list[str] = Field(description="Its classes, which are the first of the training's.")

    @classmethod
    def of(cls, record: InitialModel | None) -> "InitialModelInfo | None":
        return None if record is None else cls(**record.model_dump())


class NodeReading(ResponseModel):
    """How far one node has read its data."""

    stage: Stage = Field(description="check: the rows are checked. tokens: their token ids are written to disk.")
    bytes_read: Int64 = Field(description="Bytes of the stored files that were read in this stage.")
    bytes_total: Int64
    rows: Int64


class Preparation(ResponseModel):
    """How far the agents have read the data. It is there while a training is pending."""

    progress: Figure = Field(description="The part of both stages that is done, 0..1, by bytes of all nodes.")
    nodes: dict[str, NodeReading]

    @classmethod
    def of(cls, record: PreparationRecord | None) -> "Preparation | None":
        if record is None:
            return None
        nodes = {node_id: NodeReading(**reading.model_dump()) for node_id, reading in record.nodes.items()}
        return cls(progress=record.progress, nodes=nodes)


class Training(ResponseModel):
    """A training of a model by the nodes of a cluster."""

    training_id: str = Field(examples=["train_fed_gh789"])
    cluster_id: str
    search_id: str | None = Field(description="The search that the training belongs to, if any.")
    status: TrainingState
    config: TrainingConfig
    workers: list[str]
    joined: dict[str, int] = Field(description="Workers that have joined the running training, and the first round of each.")
    aggregator: str
    term: int = Field(description="Consensus raft: number of the aggregator's election, from 1.")
    model: str
    preparation: Preparation | None = Field(description="null before the first second of reading, and once rounds begin.")
    labels: list[str] | None = Field(description="Class names. null until the workers' data was checked.")
    parameters: Int64 | None = Field(description="Number of trainable parameters of the model.")
    initial_model: InitialModelInfo | None = Field(description="null without one, and until it was checked.")
    completed_rounds: int
    epoch: int = Field(description="Completed rounds times local_epochs, at most total_epochs.")
    total_epochs: int
    metrics: TrainingMetrics
    remaining_seconds: Figure | None = Field(
        description="Rounds left times the mean time of the last five rounds; null before the first round and after a stop."
    )
    privacy: TrainingPrivacy | None = Field(description="null without differential privacy, and until the data was checked.")
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
            config=TrainingConfig.model_validate(row.config.model_dump()),
            workers=row.workers,
            joined={
                node_id: joiner.round
                for node_id, joiner in row.joiners.items()
                if joiner.round is not None and node_id in row.workers
            },
            aggregator=row.aggregator_id,
            term=row.term,
            model=row.model,
            preparation=Preparation.of(row.preparation),
            labels=row.labels,
            parameters=row.parameters,
            initial_model=InitialModelInfo.of(row.initial_model),
            completed_rounds=row.completed_rounds,
            epoch=row.config.epochs_after(row.completed_rounds),
            total_epochs=row.config.epochs,
            metrics=TrainingMetrics.of(row.progress),
            remaining_seconds=remaining_seconds(row),
            privacy=TrainingPrivacy.of(row),
            created_at=row.created_at,
            started_at=row.started_at,
            finished_at=row.finished_at,
            stop_reason=StopReason.of(row.stop_reason),
            error=Failure.of(row.error),
        )


class RoundPrivacy(ResponseModel):
    """What differential privacy has cost one worker until the end of this round."""

    epsilon: Figure = Field(description="Spent in all rounds up to this one.")
    steps: Int64 = Field(description="Steps of this round, repetitions included.")
    sampling_rate: Figure
    noise_multiplier: Figure

    @classmethod
    def of(cls, record: RoundPrivacyRecord | None) -> "RoundPrivacy | None":
        if record is None:
            return None
        last = record.parts[-1]
        return cls(
            epsilon=record.epsilon,
            steps=sum(part.steps for part in record.parts),
            sampling_rate=last.sampling_rate,
            noise_multiplier=last.noise_multiplier,
        )


class RoundWorker(ResponseModel):
    """What one worker did in one round."""

    state: RoundWorkerState
    samples: Int64 | None
    local_loss: Figure | None
    local_accuracy: Figure | None
    train_seconds: Figure | None
    bytes_sent: Int64 | None
    reason: str | None
    commitment: Commitment | None = Field(description="proof-of-learning: hash chain over the worker's checkpoints.")
    privacy: RoundPrivacy | None
    decisions: list[NodeDecision] = Field(description="What the node decided by itself, and why.")

    @classmethod
    def of(cls, row: RoundNodeRow) -> "RoundWorker":
        fields = {name: getattr(row, name) for name in RoundWorker.model_fields if name != "privacy"}
        return RoundWorker(privacy=RoundPrivacy.of(row.privacy), **fields)


class Transfer(ResponseModel):
    """What one node sent to another, and how long the transfers took.

    `seconds` counts from the first byte of a body to its last.
    """

    from_: str = Field(alias="from", examples=["node_w1_abc123"])
    to: str
    bytes: Int64
    seconds: Figure

    model_config = ConfigDict(extra="forbid", serialize_by_alias=True)


class TrainingRound(ResponseModel):
    """One round: local training, aggregation and measurement."""

    round: int
    status: RoundState
    started_at: Timestamp
    finished_at: Timestamp | None
    base_digest: str = Field(description="Sha256 of the global model that the round began with.")
    digest: str | None = Field(description="Sha256 of the round's new global model.")
    global_loss: Figure | None
    global_accuracy: Figure | None
    validation_loss: Figure | None
    validation_accuracy: Figure | None
    validation_samples: Int64 | None
    validation_source: ValidationSource | None
    bytes_received: Int64 | None = Field(description="Bytes of the updates that reached the aggregator.")
    compression_ratio: Figure | None = Field(
        description="bytes_received divided by the bytes of as many whole fp32 models. 1: nothing was saved."
    )
    seconds: Figure | None = Field(description="Wall-clock time of the whole round.")
    train_seconds: Figure | None = Field(description="Training time of the slowest worker.")
    aggregate_seconds: Figure | None
    consensus_seconds: Figure | None
    consensus_distance: Figure | None = Field(
        description="gossip: mean distance of the workers' models from their mean, divided by the mean's norm. "
        "0: all models are equal."
    )
    evaluate_seconds: Figure | None
    copies: list[str] = Field(description="Workers that held the new model when the round was recorded.")
    votes: list[RoundVote] = Field(description="proof-of-learning: the committee's votes on the updates.")
    audits: list[RoundAudit] = Field(
        description="proof-of-learning: workers that were asked to repeat a segment of their round, with the results."
    )
    late_updates: int | None = Field(description="Number of updates that missed the deadline and were dropped.")
    data_path: DataPath | None
    data_path_reason: str | None = Field(description="Why the data path is star although the topology is another one.")
    fallback: str | None = Field(description="Why the round changed from its data path to star. null if it kept its data path.")
    links: list[Transfer] = Field(
        description="Transfers from node to node for this round's model. Downloads of the base model are included."
    )
    notices: list[str] = Field(description="Differences between the round and the request, as text.")
    workers: dict[str, RoundWorker]
    error: Failure | None

    @classmethod
    def of(cls, row: RoundRow, nodes: Sequence[RoundNodeRow]) -> "TrainingRound":
        fields = {name: getattr(row, name) for name in cls.model_fields if name not in ("round", "workers", "error")}
        workers = {node.node_id: RoundWorker.of(node) for node in nodes}
        return cls(round=row.number, workers=workers, error=Failure.of(row.error), **fields)


class TrainingRoundPage(ResponseModel):
    """One page of the rounds of a training, the oldest first."""

    items: list[TrainingRound] = Field(description="Rounds by number, the oldest first.")
    next_cursor: str | None

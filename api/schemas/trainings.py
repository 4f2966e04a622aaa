"""Shapes of trainings and rounds."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pydantic import ConfigDict, Field

from api.domain import strategies
from api.domain.errors import FieldError, InvalidError
from api.domain.paths import check_path
from api.domain.privacy import RoundPrivacyRecord
from api.domain.training_options import DEFAULT_RANK, DEFAULT_RATIO, Optimizer, PrivacyOptions, RequestedOptions
from api.domain.training_spec import TrainingSpec
from api.schemas.base import Failure, Figure, Figures, RequestModel, ResponseModel, StopReason, Timestamp
from api.store.tables import RoundNodeRow, RoundRow, TrainingRow

_OPTIONS = RequestedOptions.model_fields


class DifferentialPrivacyCreate(RequestModel, PrivacyOptions):
    """DP-SGD at every worker: each record's gradient is clipped, and Gaussian noise is added.

    Give one of `target_epsilon` and `noise_multiplier`.
    """


class TrainingCreate(RequestModel, RequestedOptions):
    differential_privacy: DifferentialPrivacyCreate | None = Field(
        None, description=_OPTIONS["differential_privacy"].description
    )

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
        """The training that is asked for, with defaults filled in.

        Raises:
            InvalidError: options contradict each other, or a path is not usable.
        """
        fields = self.model_dump(exclude={"gradient_compression"}) | self._compression()
        fields["dataset"] = check_path(self.dataset, "/dataset", glob=True)
        fields["validation"] = check_path(self.validation, "/validation", glob=True)
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


def _always_sent(schema: dict[str, Any]) -> None:
    """An answer has every field, so none of them has a default."""
    schema["required"] = list(schema["properties"])  # untyped: a JSON schema
    for field in schema["properties"].values():  # untyped: a JSON schema
        field.pop("default", None)


class DifferentialPrivacy(ResponseModel, PrivacyOptions):
    model_config = ConfigDict(json_schema_extra=_always_sent)


class WorkerPrivacy(ResponseModel):
    epsilon: Figure | None = Field(description="spent so far: every round that was begun with this worker counts")
    samples: int = Field(description="records that its plan was made for")
    sampling_rate: Figure = Field(description="probability of each record to be in a step's batch")
    noise_multiplier: Figure
    steps_per_epoch: int


class TrainingPrivacy(ResponseModel):
    """(epsilon, delta)-differential privacy, neighbours differing by one record of one worker, by a Renyi accountant. It
    covers the updates and all that is made of them; not counts of samples, the set of labels, and durations."""

    epsilon: Figure = Field(description="of the worker that has spent most")
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
    """The options that the training has, with defaults filled in."""

    differential_privacy: DifferentialPrivacy | None = Field(  # type: ignore[assignment]
        None, description=_OPTIONS["differential_privacy"].description
    )
    model_config = ConfigDict(json_schema_extra=_always_sent)


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
            config=TrainingConfig.model_validate(row.config.model_dump()),
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

    epsilon: Figure
    steps: int
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
    state: str = Field(description="training, done, rejected, late, failed, lost, declined or not_sampled")
    samples: int | None
    local_loss: Figure | None
    local_accuracy: Figure | None
    train_seconds: Figure | None
    bytes_sent: int | None
    reason: str | None
    commitment: Figures[dict[str, Any] | None] = Field(
        description="proof-of-learning: hash chain over the worker's checkpoints"
    )
    privacy: RoundPrivacy | None
    decisions: Figures[list[dict[str, Any]]] = Field(description="what the node decided by itself, and why")

    @classmethod
    def of(cls, row: RoundNodeRow) -> "RoundWorker":
        fields = {name: getattr(row, name) for name in RoundWorker.model_fields if name != "privacy"}
        return RoundWorker(privacy=RoundPrivacy.of(row.privacy), **fields)


class Link(ResponseModel):
    """Bytes that went from one node to another, and the seconds they took from a body's first byte to its last."""

    from_: str = Field(alias="from", examples=["node_w1_abc123"])
    to: str
    bytes: int
    seconds: Figure

    model_config = ConfigDict(extra="forbid", serialize_by_alias=True)


class Round(ResponseModel):
    round: int
    status: str = Field(description="running, completed, failed or stopped")
    started_at: Timestamp
    finished_at: Timestamp | None
    base_digest: str = Field(description="sha256 of the global model that the round began with")
    digest: str | None = Field(description="sha256 of the global model that it made")
    global_loss: Figure | None
    global_accuracy: Figure | None
    validation_loss: Figure | None
    validation_accuracy: Figure | None
    validation_samples: int | None
    validation_source: str | None = Field(description="validation_data or held_out_splits")
    bytes_received: int | None = Field(description="bytes of updates that reached the aggregator")
    compression_ratio: Figure | None = Field(
        description="bytes_received over the bytes of as many whole fp32 models: 1 = nothing was saved"
    )
    seconds: Figure | None = Field(description="wall-clock, everything included")
    train_seconds: Figure | None = Field(description="of the slowest worker")
    aggregate_seconds: Figure | None
    consensus_seconds: Figure | None
    consensus_distance: Figure | None = Field(
        description="gossip: mean distance of the workers' models from their mean, over the mean's norm; 0 = they agree"
    )
    evaluate_seconds: Figure | None
    copies: list[str] = Field(description="workers that held the new model when the round was recorded")
    votes: Figures[list[dict[str, Any]]]
    audits: Figures[list[dict[str, Any]]] = Field(
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

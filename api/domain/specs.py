"""What a client may ask for, after its form was checked. Plain values; the wire shapes live in api.schemas."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Literal

from api.domain import consensus, sampling, strategies
from api.domain.consensus import Consensus
from api.domain.errors import ConflictError, FieldError, InvalidError
from api.domain.privacy import PrivacySpec
from api.domain.stopping import StoppingRules
from api.domain.strategies import Strategy
from api.domain.topology import Topology

Architecture = Literal["transformer", "transformer-xl", "gpt", "rnn", "cnn"]
NodeType = Literal["worker", "parameter_server", "validator"]
Role = Literal["worker", "aggregator", "validator"]
Template = Literal["python", "nodejs"]
Capability = Literal["training", "inference", "aggregation", "synchronization", "validation"]
Optimizer = Literal["adam", "adamw", "sgd", "rmsprop", "adagrad"]
Schedule = Literal["cosine", "constant"]
Compression = Literal["none", "fp16", "int8", "topk", "topk+fp16", "topk+int8", "lora", "lora+fp16", "lora+int8"]
Aggregation = Literal["ensemble", "majority", "weighted", "mean", "global"]

ROLE_OF_TYPE: Final[dict[NodeType, Role]] = {"worker": "worker", "parameter_server": "aggregator", "validator": "validator"}
DEFAULT_CAPABILITIES: Final[dict[Role, tuple[Capability, ...]]] = {
    "worker": ("training", "inference"),
    "aggregator": ("aggregation", "synchronization"),
    "validator": ("validation",),
}
# Of two, each knows the other's update once the mean is published.
LEAST_SECURE: Final = 3
_MODEL_SIZE: Final = {"base": 0, "large": 1}


@dataclass(frozen=True, slots=True)
class ClusterSpec:
    """`idle_timeout_minutes` None is the deployment's default, 0 never; `budget_usd` None is no limit."""

    name: str
    topology: Topology
    architecture: Architecture
    daa_enabled: bool
    consensus: Consensus
    wasm_optimization: bool
    idle_timeout_minutes: float | None = None
    budget_usd: float | None = None

    def check_topology(self) -> None:
        """InvalidError for a consensus that its topology gives no edges for."""
        consensus.check_topology(self.consensus, self.topology)

    def config(self) -> dict[str, Any]:
        return {
            "architecture": self.architecture,
            "daa_enabled": self.daa_enabled,
            "consensus": self.consensus,
            "wasm_optimization": self.wasm_optimization,
        }


@dataclass(frozen=True, slots=True)
class NodeSpec:
    node_type: NodeType
    role: Role
    model: str
    template: Template
    autonomy: float
    capabilities: tuple[Capability, ...]
    data_owner: bool = False


@dataclass(frozen=True, slots=True)
class TrainingSpec:
    """`dataset` is a path or glob in each worker's sandbox, in the aggregator's where not `federated`; `validation` one in the
    aggregator's and the validators'."""

    dataset: str
    epochs: int
    batch_size: int
    learning_rate: float
    schedule: Schedule
    optimizer: Optimizer
    federated: bool
    local_epochs: int
    seed: int
    strategy: Strategy
    weight_decay: float
    max_length: int
    validation: str
    hold_out: bool = True

    # The strategy's parameters; None where they are another strategy's.
    server_learning_rate: float | None = None
    server_momentum: float | None = None
    server_beta_1: float | None = None
    server_beta_2: float | None = None
    server_tau: float | None = None
    proximal_mu: float | None = None
    trim_fraction: float | None = None
    byzantine_count: int | None = None

    # Who takes part in a round, and when it ends. None: the deployment's setting.
    fraction: float = 1.0
    min_workers: int = 1
    round_deadline_s: float | None = None
    quorum: float | None = None

    target_accuracy: float | None = None
    patience: int | None = None
    budget_usd: float | None = None
    max_minutes: float | None = None

    mixed_precision: bool = False
    freeze_layers: int = 0
    compression: Compression = "none"
    compression_ratio: float | None = None
    lora_rank: int = 0

    differential_privacy: PrivacySpec | None = None
    secure_aggregation: bool = False

    def check_mode(self, consensus: str) -> None:
        """InvalidError for what goes only with federated training, where this is none."""
        if self.federated:
            return
        foreign = {
            "/federated": consensus != "none"
            and f"the cluster's consensus {consensus!r} judges models, and gradients have none",
            "/strategy": self.strategy != "fedavg"
            and f"gradients are averaged; the strategy {self.strategy!r} combines models",
            "/compression": self.compression != "none" and f"{self.compression!r} shrinks models, not gradients",
            "/freeze_layers": self.freeze_layers > 0 and "every layer is trained",
            "/fraction": self.fraction < 1 and "every worker takes part in every step",
        }
        errors = tuple(FieldError(pointer, f"with federated false: {why}") for pointer, why in foreign.items() if why)
        if errors:
            raise InvalidError("federated_only", errors[0].message, errors=errors)

    def check_workers(self, workers: int, mode: Consensus = "none") -> None:
        """InvalidError where a round of that many workers could not be made under the cluster's consensus."""
        if self.min_workers > workers:
            message = f"the cluster has {workers} workers that train; {self.min_workers} are asked for"
            raise InvalidError("too_few_workers", message, errors=(FieldError("/min_workers", message),))
        drawn = sampling.count(workers, self.fraction, self.min_workers)
        given = {name: value for name in strategies.PARAMETERS if (value := getattr(self, name)) is not None}
        least = strategies.least_updates(self.strategy, given)
        if drawn < least:
            message = f"{self.strategy!r} needs at least {least} updates in a round, and {drawn} workers take part in one"
            raise InvalidError("too_few_workers", message, errors=(FieldError("/strategy", message),))
        if self.secure_aggregation and drawn < LEAST_SECURE:
            message = f"a sum hides its parts from {LEAST_SECURE} workers on; {drawn} take part in a round"
            raise InvalidError("too_few_workers", message, errors=(FieldError("/secure_aggregation", message),))
        whole = self.compression == "none" and not self.freeze_layers
        consensus.check(mode, self.strategy, drawn, everybody=drawn == workers, whole=whole)

    def config(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class PredictionSpec:
    """Exactly one of `inputs` (texts) and `input_data` (a path in the aggregator's sandbox)."""

    aggregation: Aggregation
    inputs: tuple[str, ...] | None
    input_data: str | None
    training_id: str | None


def holds_out(config: Mapping[str, Any]) -> bool:
    """Whether each worker keeps some of its samples out of a training of this config, to measure models on them."""
    return bool(config["hold_out"]) and not config["differential_privacy"]


def stopping_rules(config: Mapping[str, Any]) -> StoppingRules:
    """The stopping rules of a training's config."""
    return StoppingRules(**{field.name: config.get(field.name) for field in fields(StoppingRules)})


def common_model(worker_models: Sequence[str], aggregator_model: str) -> str:
    """The one model of a training. The aggregator's own `model` says the largest it was deployed to hold.

    Raises ConflictError when the workers differ, or are larger than the aggregator.
    """
    models = sorted(set(worker_models))
    if len(models) > 1:
        raise ConflictError("models_differ", f"The workers were deployed with different models: {', '.join(models)}.")
    model = models[0]
    if model in _MODEL_SIZE and _MODEL_SIZE.get(aggregator_model, -1) >= _MODEL_SIZE[model]:
        return model
    if aggregator_model in (model, "large"):
        return model
    raise ConflictError(
        "aggregator_too_small",
        f"The aggregator was deployed for model {aggregator_model!r} and cannot hold the workers' {model!r}.",
    )

"""What a client asked for, after the request was checked.

The models of the requests are in `api.schemas`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from api.domain import consensus
from api.domain.consensus import Consensus
from api.domain.errors import ConflictError
from api.domain.records import Record
from api.domain.topology import Topology
from api.domain.training_options import OnBadRows
from api.domain.words import Words

Architecture = Annotated[
    Literal["transformer", "transformer-xl", "gpt", "rnn", "cnn"], Words("Architecture", "The network that a cluster trains.")
]
NodeType = Annotated[Literal["worker", "parameter_server", "validator"], Words("NodeType", "What a node is deployed as.")]
Role = Annotated[
    Literal["worker", "aggregator", "validator"],
    Words("NodeRole", "What a node does: it trains, combines updates, or measures models."),
]
Template = Annotated[Literal["python", "nodejs"], Words("SandboxTemplate", "The language that a sandbox is made for.")]
Capability = Annotated[
    Literal["training", "inference", "aggregation", "synchronization", "validation"],
    Words("Capability", "What a node can be used for."),
]
# More texts than this have no votes: the answer of each worker would have as many rows.
MOST_VOTED: Final = 1000
Aggregation = Annotated[
    Literal["ensemble", "majority", "weighted", "mean", "global"],
    Words("Aggregation", "How the answers of the nodes are combined."),
]
Language = Annotated[
    Literal["python", "nodejs", "javascript", "bash"], Words("Language", "The language of code that is run in a sandbox.")
]

ROLE_OF_TYPE: Final[dict[NodeType, Role]] = {"worker": "worker", "parameter_server": "aggregator", "validator": "validator"}
DEFAULT_CAPABILITIES: Final[dict[Role, tuple[Capability, ...]]] = {
    "worker": ("training", "inference"),
    "aggregator": ("aggregation", "synchronization"),
    "validator": ("validation",),
}
_MODEL_SIZE: Final = {"base": 0, "large": 1}


class ClusterSettings(Record):
    """The settings that all trainings and predictions of a cluster share."""

    architecture: Architecture
    daa_enabled: bool
    consensus: Consensus
    wasm_optimization: bool


@dataclass(frozen=True, slots=True)
class ClusterSpec:
    """A cluster that a client asked for.

    `idle_timeout_minutes` None means the deployment's default. 0 means that the cluster never
    ends for being idle. `budget_usd` None means no limit.
    """

    name: str
    topology: Topology
    architecture: Architecture
    daa_enabled: bool
    consensus: Consensus
    wasm_optimization: bool
    idle_timeout_minutes: float | None = None
    budget_usd: float | None = None

    def check_topology(self) -> None:
        """Check that the topology has the edges that the consensus needs.

        Raises:
            InvalidError: `consensus_conflict`.
        """
        consensus.check_topology(self.consensus, self.topology)

    @property
    def settings(self) -> ClusterSettings:
        return ClusterSettings(
            architecture=self.architecture,
            daa_enabled=self.daa_enabled,
            consensus=self.consensus,
            wasm_optimization=self.wasm_optimization,
        )


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
class PredictionSpec:
    """A prediction that a client asked for.

    It has exactly one of `inputs` (texts) and `input_data` (a path in the aggregator's sandbox).
    """

    aggregation: Aggregation
    inputs: tuple[str, ...] | None
    input_data: str | None
    training_id: str | None
    text_field: str | None = None
    label_field: str | None = None
    on_bad_rows: OnBadRows | None = None
    votes: bool = False

    @property
    def input(self) -> "PredictionInput":
        return PredictionInput(
            inputs=self.inputs,
            input_data=self.input_data,
            text_field=self.text_field,
            label_field=self.label_field,
            on_bad_rows=self.on_bad_rows,
            votes=self.votes,
        )


class PredictionInput(Record):
    """The texts of a prediction.

    `inputs` is None once the prediction has ended: its results have the texts. The other fields
    say how to read `input_data`; None means as the training reads its files. `votes` asks for the
    answer of each worker.
    """

    inputs: tuple[str, ...] | None = None
    input_data: str | None = None
    text_field: str | None = None
    label_field: str | None = None
    on_bad_rows: OnBadRows | None = None
    votes: bool = False


class ExecutionRequest(Record):
    """Code for the background, and what it gets.

    `language` None is the language of the sandbox's template, `cwd` None the home folder.
    """

    code: str
    language: str | None = None
    env: Mapping[str, str] = {}
    args: tuple[str, ...] = ()
    stdin: str | None = None
    cwd: str | None = None


@dataclass(frozen=True, slots=True)
class ExecutionSpec:
    """An execution that a client asked for. `timeout_s` None is the deployment's default."""

    request: ExecutionRequest
    timeout_s: float | None = None


def common_model(worker_models: Sequence[str], aggregator_model: str) -> str:
    """Return the model of a training: all its workers must have the same.

    `aggregator_model` is the largest model that the aggregator can hold.

    Raises:
        ConflictError: `models_differ`, or `aggregator_too_small`.
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

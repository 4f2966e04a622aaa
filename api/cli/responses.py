"""The fields of the API's responses that the command line shows.

They are plain dataclasses, because the models of `api.schemas` import the database layer.
That import takes longer than a simple command. They are not frozen, because frozen dataclasses
take twice as long to create at import.

Pydantic fills them in `api.cli.http.answer`. It ignores unknown fields. A field with a default may
be missing in an answer; it shows as a dash.
"""

from dataclasses import dataclass, field
from typing import Generic, TypeVar

JsonObject = dict[str, object]
T = TypeVar("T")


@dataclass
class Page(Generic[T]):
    items: list[T]
    next_cursor: str | None = None


@dataclass
class Reason:
    """Why something failed, or why it ended early."""

    code: str | None = None
    detail: str | None = None


@dataclass
class FieldProblem:
    pointer: str
    message: str


@dataclass
class Problem:
    """RFC 9457 problem details."""

    code: str
    title: str | None = None
    detail: str | None = None
    errors: list[FieldProblem] | None = None


@dataclass
class Cluster:
    cluster_id: str
    name: str | None = None
    topology: str | None = None
    status: str | None = None
    created_at: str | None = None
    config: JsonObject = field(default_factory=dict)
    cost_usd: float | None = None


@dataclass
class Connection:
    # `from` is a keyword of Python.
    __pydantic_config__ = {"alias_generator": lambda name: name.rstrip("_")}  # noqa: RUF012 - pydantic reads a plain dict

    from_: str | None = None
    to: str | None = None


@dataclass
class Connections:
    cluster_id: str
    connections: list[Connection]
    topology: str | None = None
    status: str | None = None


@dataclass
class Resources:
    cpu_cores: int | None = None
    memory_gb: float | None = None
    gpu: str | None = None


@dataclass
class RejectedUpdates:
    count: int | None = None
    last_round: int | None = None
    last_reason: str | None = None


@dataclass
class Node:
    node_id: str
    sandbox_id: str | None = None
    role: str | None = None
    status: str | None = None
    autonomy_level: float | None = None
    capabilities: list[str] | None = None
    resources: Resources | None = None
    rejected_updates: RejectedUpdates | None = None
    error: Reason | None = None


@dataclass
class TrainingConfig:
    """The options of a training. `vars()` returns all of them, also those without a field here."""

    __pydantic_config__ = {"extra": "allow"}  # noqa: RUF012 - pydantic reads a plain dict

    epochs: int | None = None


@dataclass
class Privacy:
    epsilon: float | None = None
    delta: float | None = None


@dataclass
class Training:
    training_id: str
    cluster_id: str | None = None
    status: str | None = None
    config: TrainingConfig = field(default_factory=TrainingConfig)
    workers: list[str] | None = None
    aggregator: str | None = None
    privacy: Privacy | None = None
    created_at: str | None = None
    stop_reason: Reason | None = None
    error: Reason | None = None


@dataclass
class Round:
    round: int | None = None
    status: str | None = None
    global_loss: float | None = None
    global_accuracy: float | None = None
    validation_accuracy: float | None = None
    seconds: float | None = None


@dataclass
class Trial:
    """One training of a search."""

    options: JsonObject = field(default_factory=dict)
    training_id: str | None = None
    status: str | None = None
    metric: float | None = None
    epochs: int | None = None
    stop_reason: Reason | None = None
    error: Reason | None = None


@dataclass
class Search:
    search_id: str
    cluster_id: str | None = None
    status: str | None = None
    method: str | None = None
    space: JsonObject = field(default_factory=dict)
    metric: str = ""
    early_stopping: str | None = None
    trials: list[Trial] = field(default_factory=list)
    best_training_id: str | None = None
    best_options: JsonObject | None = None
    best_metric: float | None = None
    cost_usd: float | None = None
    created_at: str | None = None
    stop_reason: Reason | None = None
    error: Reason | None = None


@dataclass
class PredictedText:
    text: str | None = None
    sentiment: str | None = None
    confidence: float | None = None


@dataclass
class PredictionResults:
    accuracy: float | None = None
    precision: float | None = None
    recall: float | None = None
    f1_score: float | None = None
    notices: list[str] = field(default_factory=list)
    predictions: list[PredictedText] = field(default_factory=list)


@dataclass
class Prediction:
    prediction_id: str
    status: str | None = None
    aggregation: str | None = None
    results: PredictionResults | None = None
    inference_time: str | None = None
    nodes_used: int | None = None
    error: Reason | None = None


@dataclass
class Model:
    model_id: str
    name: str | None = None
    status: str | None = None
    training_id: str | None = None
    path: str | None = None
    created_at: str | None = None
    error: Reason | None = None


@dataclass
class Sandbox:
    sandbox_id: str
    status: str | None = None
    node_id: str | None = None
    template: str | None = None
    started_at: str | None = None


@dataclass
class StoredFile:
    path: str | None = None
    size: int | None = None
    sha256: str | None = None


@dataclass
class Execution:
    stdout: str
    stderr: str
    exit_code: int | None
    duration_ms: int | None = None


@dataclass
class LogLine:
    time: str | None = None
    stream: str | None = None
    line: str = ""


@dataclass
class Logs:
    lines: list[LogLine]


@dataclass
class ApiKey:
    key_id: str
    project: str | None = None
    name: str | None = None
    prefix: str | None = None
    status: str | None = None
    scopes: list[str] | None = None
    node_id: str | None = None
    last_used_at: str | None = None


@dataclass
class Quota:
    used: int | float | None = None
    limit: int | float | None = None


@dataclass
class Project:
    project_id: str
    name: str | None = None
    quotas: dict[str, Quota] = field(default_factory=dict)


@dataclass
class Metrics:
    global_loss: float | None = None
    global_accuracy: float | None = None
    validation_accuracy: float | None = None
    convergence_rate: float | None = None


@dataclass
class WorkerProgress:
    local_loss: float | None = None
    samples: int | None = None
    state: str | None = None
    reason: str | None = None


@dataclass
class RedFlag:
    message: str | None = None
    suggestion: str | None = None


@dataclass
class TrainingSession:
    """The progress of one training of a cluster."""

    training_id: str
    status: str | None = None
    epoch: int = 0
    total_epochs: int = 0
    metrics: Metrics = field(default_factory=Metrics)
    workers: dict[str, WorkerProgress] = field(default_factory=dict)
    time_elapsed: str | None = None
    estimated_completion: str | None = None
    cost_usd: float | None = None
    cost_per_epoch_usd: float | None = None
    cost_per_accuracy_point_usd: float | None = None
    red_flags: list[RedFlag] | None = None
    stop_reason: Reason | None = None
    error: Reason | None = None


@dataclass
class ClusterStatus:
    cluster_id: str
    training_sessions: list[TrainingSession]
    name: str | None = None
    status: str | None = None
    cost_usd: float | None = None

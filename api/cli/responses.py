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
class PageJson(Generic[T]):
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
class ProblemJson:
    """RFC 9457 problem details."""

    code: str
    title: str | None = None
    detail: str | None = None
    errors: list[FieldProblem] | None = None


@dataclass
class ClusterJson:
    cluster_id: str
    name: str | None = None
    topology: str | None = None
    status: str | None = None
    created_at: str | None = None
    config: JsonObject = field(default_factory=dict)
    cost_usd: float | None = None


@dataclass
class ConnectionJson:
    # `from` is a keyword of Python.
    __pydantic_config__ = {"alias_generator": lambda name: name.rstrip("_")}  # noqa: RUF012 - pydantic reads a plain dict

    from_: str | None = None
    to: str | None = None


@dataclass
class ConnectionsJson:
    cluster_id: str
    connections: list[ConnectionJson]
    topology: str | None = None
    status: str | None = None


@dataclass
class ResourcesJson:
    cpu_cores: int | None = None
    memory_gb: float | None = None
    gpu: str | None = None


@dataclass
class RejectedUpdatesJson:
    count: int | None = None
    last_round: int | None = None
    last_reason: str | None = None


@dataclass
class NodeJson:
    node_id: str
    sandbox_id: str | None = None
    role: str | None = None
    status: str | None = None
    autonomy_level: float | None = None
    capabilities: list[str] | None = None
    resources: ResourcesJson | None = None
    rejected_updates: RejectedUpdatesJson | None = None
    error: Reason | None = None


@dataclass
class TrainingConfigJson:
    """The options of a training. `vars()` returns all of them, also those without a field here."""

    __pydantic_config__ = {"extra": "allow"}  # noqa: RUF012 - pydantic reads a plain dict

    epochs: int | None = None


@dataclass
class Privacy:
    epsilon: float | None = None
    delta: float | None = None


@dataclass
class PreparationJson:
    progress: float | None = None


@dataclass
class TrainingJson:
    training_id: str
    cluster_id: str | None = None
    status: str | None = None
    preparation: PreparationJson | None = None
    config: TrainingConfigJson = field(default_factory=TrainingConfigJson)
    workers: list[str] | None = None
    aggregator: str | None = None
    privacy: Privacy | None = None
    created_at: str | None = None
    stop_reason: Reason | None = None
    error: Reason | None = None


@dataclass
class RoundJson:
    round: int | None = None
    status: str | None = None
    global_loss: float | None = None
    global_accuracy: float | None = None
    validation_accuracy: float | None = None
    seconds: float | None = None


@dataclass
class TrialJson:
    """One training of a search."""

    options: JsonObject = field(default_factory=dict)
    training_id: str | None = None
    status: str | None = None
    metric: float | None = None
    epochs: int | None = None
    stop_reason: Reason | None = None
    error: Reason | None = None


@dataclass
class SearchJson:
    search_id: str
    cluster_id: str | None = None
    status: str | None = None
    method: str | None = None
    space: JsonObject = field(default_factory=dict)
    metric: str = ""
    early_stopping: str | None = None
    trials: list[TrialJson] = field(default_factory=list)
    best_training_id: str | None = None
    best_options: JsonObject | None = None
    best_metric: float | None = None
    cost_usd: float | None = None
    created_at: str | None = None
    stop_reason: Reason | None = None
    error: Reason | None = None


@dataclass
class PredictedTextJson:
    text: str | None = None
    sentiment: str | None = None
    confidence: float | None = None


@dataclass
class ConfusionJson:
    """Counts of samples: rows are true classes, columns predicted ones."""

    labels: list[str] = field(default_factory=list)
    counts: list[list[int]] = field(default_factory=list)


@dataclass
class PredictionResults:
    accuracy: float | None = None
    precision: float | None = None
    recall: float | None = None
    f1_score: float | None = None
    confusion_matrix: ConfusionJson | None = None
    notices: list[str] = field(default_factory=list)
    predictions: list[PredictedTextJson] = field(default_factory=list)


@dataclass
class PredictionJson:
    prediction_id: str
    status: str | None = None
    aggregation: str | None = None
    results: PredictionResults | None = None
    inference_time: str | None = None
    nodes_used: int | None = None
    progress: float | None = None
    input_sha256: str | None = None
    error: Reason | None = None


@dataclass
class ModelJson:
    model_id: str
    name: str | None = None
    status: str | None = None
    progress: float | None = None
    training_id: str | None = None
    path: str | None = None
    created_at: str | None = None
    error: Reason | None = None


@dataclass
class SandboxJson:
    sandbox_id: str
    status: str | None = None
    node_id: str | None = None
    template: str | None = None
    started_at: str | None = None


@dataclass
class StoredFileJson:
    path: str | None = None
    size: int | None = None
    sha256: str | None = None


@dataclass
class ExecutionResultJson:
    stdout: str
    stderr: str
    exit_code: int | None
    duration_ms: int | None = None
    limit: str | None = None


@dataclass
class ExecutionJson:
    execution_id: str
    status: str | None = None
    sandbox_id: str | None = None
    exit_code: int | None = None
    limit: str | None = None
    stdout: str | None = None
    stderr: str | None = None
    stdout_bytes: int | None = None
    stderr_bytes: int | None = None
    created_at: str | None = None
    started_at: str | None = None
    ended_at: str | None = None
    error: Reason | None = None


@dataclass
class OutputJson:
    stream: str
    text: str


@dataclass
class LogLineJson:
    time: str | None = None
    stream: str | None = None
    line: str = ""


@dataclass
class LogsJson:
    lines: list[LogLineJson]


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
class WebhookJson:
    webhook_id: str
    name: str | None = None
    url: str | None = None
    event_types: list[str] | None = None
    enabled: bool | None = None
    failing_since: str | None = None


@dataclass
class DeliveryJson:
    delivery_id: str
    event_type: str | None = None
    status: str | None = None
    attempts: int | None = None
    status_code: int | None = None
    duration_ms: float | None = None
    error: str | None = None
    due_at: str | None = None


@dataclass
class QuotaJson:
    used: int | float | None = None
    limit: int | float | None = None


@dataclass
class ProjectJson:
    project_id: str
    name: str | None = None
    quotas: dict[str, QuotaJson] = field(default_factory=dict)


@dataclass
class MetricsJson:
    global_loss: float | None = None
    global_accuracy: float | None = None
    validation_accuracy: float | None = None
    convergence_rate: float | None = None


@dataclass
class WorkerProgressJson:
    local_loss: float | None = None
    samples: int | None = None
    state: str | None = None
    reason: str | None = None


@dataclass
class RedFlagJson:
    message: str | None = None
    suggestion: str | None = None


@dataclass
class TrainingSessionJson:
    """The progress of one training of a cluster."""

    training_id: str
    status: str | None = None
    preparation: PreparationJson | None = None
    epoch: int = 0
    total_epochs: int = 0
    metrics: MetricsJson = field(default_factory=MetricsJson)
    workers: dict[str, WorkerProgressJson] = field(default_factory=dict)
    time_elapsed: str | None = None
    estimated_completion: str | None = None
    cost_usd: float | None = None
    cost_per_epoch_usd: float | None = None
    cost_per_accuracy_point_usd: float | None = None
    red_flags: list[RedFlagJson] | None = None
    stop_reason: Reason | None = None
    error: Reason | None = None


@dataclass
class ClusterStatusJson:
    cluster_id: str
    training_sessions: list[TrainingSessionJson]
    name: str | None = None
    status: str | None = None
    cost_usd: float | None = None

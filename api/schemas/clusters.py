"""Models of clusters, their connections and their status."""

from typing import Annotated, Any, TypeVar

from pydantic import ConfigDict, Field

from api.domain.consensus import Consensus
from api.domain.progress import duration_text
from api.domain.red_flags import RaisedFlag, RedFlagCode
from api.domain.specs import Architecture, ClusterSpec, Role
from api.domain.status import ClusterState, NodeState, RoundWorkerState, TrainingState
from api.domain.topology import Topology
from api.domain.training_progress import WorkerProgress as KeptProgress
from api.schemas.base import Failure, Figure, Int64, Name, RequestModel, ResponseModel, StopReason, Timestamp
from api.schemas.training_metrics import TrainingMetrics
from api.schemas.trainings import Preparation, TrainingPrivacy
from api.services.progress import MOST_SESSIONS, ClusterStatusView, EarlierView, SessionView
from api.store.tables import ClusterRow

ReasonT = TypeVar("ReasonT", Failure, StopReason)
# A status stays below 64 KiB with 100 workers. The rounds and the events have the whole texts.
_MOST_FLAGS = 10
_LONGEST_REASON = 80
_LONGEST_MESSAGE = 240
_LONGEST_DETAIL = 2000


class ClusterCreate(RequestModel):
    """The cluster to create. Only `name` is required."""

    name: Name
    topology: Topology = "mesh"
    architecture: Architecture = "transformer"
    daa_enabled: bool = Field(False, description="Nodes may decide by themselves, as far as each node's `autonomy` allows.")
    consensus: Consensus = Field(
        "none",
        description="Who decides which updates count. proof-of-learning: workers commit to their training steps, repeat some"
        " of them on request, and a committee votes. byzantine: Multi-Krum, or the median below five updates. gossip: pairs"
        " of workers average their models along a mesh or a ring. raft: the workers elect a new aggregator when its sandbox"
        " is gone.",
    )
    wasm_optimization: bool = Field(False, description="Predict with an ONNX graph, and add the graph to exports.")
    idle_timeout_minutes: float | None = Field(
        None,
        ge=0,
        le=525_600,
        description="Minutes without training, prediction, upload, download or execute after which the cluster is"
        " terminated. 0: never. null: the deployment's default.",
    )
    budget_usd: float | None = Field(
        None,
        gt=0,
        le=10_000_000,
        description="The largest cost of the sandboxes. An event warns at 80 %. At 100 % the cluster is terminated.",
    )

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "sentiment-analyzer-cluster",
                    "topology": "mesh",
                    "architecture": "transformer",
                    "daa_enabled": True,
                    "consensus": "proof-of-learning",
                    "wasm_optimization": True,
                }
            ]
        }
    )

    def spec(self) -> ClusterSpec:
        return ClusterSpec(**self.model_dump())


class ClusterConfig(ResponseModel):
    """The settings that all trainings of a cluster share."""

    architecture: Architecture
    daa_enabled: bool
    consensus: Consensus
    wasm_optimization: bool


class Cluster(ResponseModel):
    """A cluster: nodes that train one kind of model together."""

    cluster_id: str = Field(examples=["cls_9x7k3m2p"])
    name: str
    topology: Topology
    status: ClusterState
    created_at: Timestamp
    config: ClusterConfig
    idle_timeout_minutes: float | None = Field(description="null: the deployment's default; 0: never.")
    budget_usd: float | None = Field(description="null: no limit.")

    @classmethod
    def of(cls, row: ClusterRow) -> "Cluster":
        return cls(
            cluster_id=row.id,
            name=row.name,
            topology=row.topology,
            status=row.status,
            created_at=row.created_at,
            config=ClusterConfig(**row.config.model_dump()),
            idle_timeout_minutes=row.idle_timeout_minutes,
            budget_usd=_usd(row.budget_usd),
        )


class ClusterConnect(RequestModel):
    """The topology in which to connect the running nodes."""

    topology: Topology | None = Field(None, description="null or absent: the topology that the cluster has.")


class Connection(ResponseModel):
    """An edge of a cluster. Data passes along it."""

    source: Annotated[str, Field(alias="from", examples=["node_w1_abc123"])]
    target: Annotated[str, Field(alias="to", examples=["node_w2_bcd234"], description="A node's id, or `all`.")]


class ClusterConnections(ResponseModel):
    """The edges of a connected cluster."""

    cluster_id: str
    topology: Topology
    connections: list[Connection]
    status: ClusterState

    @classmethod
    def of(cls, row: ClusterRow) -> "ClusterConnections":
        return cls(
            cluster_id=row.id,
            topology=row.topology,
            connections=[Connection.model_validate(edge) for edge in row.connections],
            status=row.status,
        )


class WorkerProgress(ResponseModel):
    """The newest figures of one worker."""

    local_loss: Figure | None = Field(description="Mean cross-entropy (nats) of the worker's last local epoch.")
    local_accuracy: Figure | None
    samples: Int64 | None = Field(description="Training samples of the worker's shard, without held-out samples.")
    state: RoundWorkerState | None = Field(description="The state in the newest round.")
    reason: str | None = Field(
        description=f"Why the worker was rejected, failed or lost, in {_LONGEST_REASON} characters. The rounds have all of it."
    )

    @classmethod
    def of(cls, worker: KeptProgress) -> "WorkerProgress":
        return cls(
            local_loss=worker.local_loss,
            local_accuracy=worker.local_accuracy,
            samples=worker.samples,
            state=worker.state,
            reason=_shortened(worker.reason, _LONGEST_REASON),
        )


class RedFlag(ResponseModel):
    """A current problem of a training.

    It disappears when it is over; its event `training.red_flag` stays.
    """

    code: RedFlagCode
    message: str
    suggestion: str = Field(description="What to do now.")
    node_id: str | None = Field(description="null for a flag of the whole training.")
    round: int | None = Field(description="The round that raised the flag; null before the first round.")
    since: Timestamp

    @classmethod
    def of(cls, flag: RaisedFlag) -> "RedFlag":
        return cls(**{**flag.model_dump(), "message": _shortened(flag.message, _LONGEST_MESSAGE)})


class EarlierSession(ResponseModel):
    """An earlier training in short. `url` has all of it."""

    training_id: str
    status: TrainingState
    epoch: int = Field(description="Completed rounds times local_epochs, at most total_epochs.")
    total_epochs: int
    metrics: TrainingMetrics
    time_elapsed: str | None = Field(description="Elapsed time as text.", examples=["8m 30s"])
    estimated_completion: str | None = Field(description="Time left as text.", examples=["0s"])
    elapsed_seconds: Figure | None
    remaining_seconds: Figure | None
    cost_usd: Figure | None
    stop_reason: StopReason | None
    error: Failure | None
    url: str = Field(
        description="The path of the training. Below it, `/rounds` has the figures of each worker.",
        examples=["/v1/trainings/train_fed_gh789"],
    )

    @classmethod
    def of(cls, view: EarlierView) -> "EarlierSession":
        return cls(
            training_id=view.training_id,
            status=view.status,
            epoch=view.epoch,
            total_epochs=view.total_epochs,
            metrics=TrainingMetrics.of(view.figures),
            time_elapsed=duration_text(view.elapsed_seconds),
            estimated_completion=duration_text(view.remaining_seconds),
            elapsed_seconds=view.elapsed_seconds,
            remaining_seconds=view.remaining_seconds,
            cost_usd=_usd(view.cost_usd),
            stop_reason=_short(StopReason.of(view.stop_reason), _LONGEST_REASON),
            error=_short(Failure.of(view.error), _LONGEST_REASON),
            url=f"/v1/trainings/{view.training_id}",
        )


class TrainingSession(ResponseModel):
    """The newest training, or the one that runs, in full."""

    training_id: str
    status: TrainingState
    preparation: Preparation | None = Field(description="How far the data is read; null once rounds begin.")
    epoch: int = Field(description="Completed rounds times local_epochs, at most total_epochs.")
    total_epochs: int = Field(
        description="The requested epochs, also when the training ended early; `stop_reason` then says why."
    )
    metrics: TrainingMetrics
    workers: dict[str, WorkerProgress]
    time_elapsed: str | None = Field(description="Elapsed time as text.", examples=["8m 30s"])
    estimated_completion: str | None = Field(
        description="Time left as text: rounds left times the mean time of the last five rounds; null before the first round.",
        examples=["12m 15s"],
    )
    elapsed_seconds: Figure | None
    remaining_seconds: Figure | None
    cost_usd: Figure = Field(
        description="Sandbox-seconds of the training's nodes between its start and its end, times their price."
    )
    cost_per_epoch_usd: Figure | None
    cost_per_accuracy_point_usd: Figure | None = Field(description="Per percentage point of validation_accuracy.")
    red_flags: list[RedFlag] = Field(
        description=f"Current problems; for an ended training, the problems at its end. At most {_MOST_FLAGS} are shown."
    )
    red_flag_count: int = Field(description="The number of all current problems.")
    privacy: TrainingPrivacy | None
    stop_reason: StopReason | None
    error: Failure | None

    @classmethod
    def of(cls, view: SessionView) -> "TrainingSession":
        return cls(
            training_id=view.training.id,
            status=view.training.status,
            preparation=Preparation.of(view.training.preparation),
            epoch=view.epoch,
            total_epochs=view.total_epochs,
            metrics=TrainingMetrics.of(view.figures),
            workers={node_id: WorkerProgress.of(worker) for node_id, worker in view.workers.items()},
            time_elapsed=duration_text(view.elapsed_seconds),
            estimated_completion=duration_text(view.remaining_seconds),
            elapsed_seconds=view.elapsed_seconds,
            remaining_seconds=view.remaining_seconds,
            cost_usd=float(view.cost_usd),
            cost_per_epoch_usd=_usd(view.cost_per_epoch_usd),
            cost_per_accuracy_point_usd=_usd(view.cost_per_accuracy_point_usd),
            red_flags=[RedFlag.of(flag) for flag in view.training.red_flags[:_MOST_FLAGS]],
            red_flag_count=len(view.training.red_flags),
            privacy=TrainingPrivacy.of(view.training),
            stop_reason=StopReason.of(view.training.stop_reason),
            error=_short(Failure.of(view.training.error), _LONGEST_DETAIL),
        )


class NodeSummary(ResponseModel):
    """A node in short."""

    node_id: str
    role: Role
    status: NodeState
    sandbox_id: str | None


class ClusterStatus(ResponseModel):
    """The trainings, nodes and cost of a cluster at one moment."""

    cluster_id: str
    status: ClusterState
    training_sessions: list[TrainingSession | EarlierSession] = Field(
        description=f"The newest {MOST_SESSIONS} trainings, the newest first. Ended trainings are included. The newest one"
        " and the one that runs are in full. The others are short and have a `url`."
    )
    trainings_url: str = Field(
        description="The list of all trainings of the cluster, in pages.",
        examples=["/v1/trainings?cluster_id=cls_9x7k3m2p"],
    )
    nodes: list[NodeSummary]
    cost_usd: Figure = Field(
        description="All sandbox-seconds of the cluster so far, times their price. Times and costs of an answer are those of"
        " the last whole second."
    )

    @classmethod
    def of(cls, view: ClusterStatusView) -> "ClusterStatus":
        return cls(
            cluster_id=view.cluster_id,
            status=view.status,
            training_sessions=[
                TrainingSession.of(session) if isinstance(session, SessionView) else EarlierSession.of(session)
                for session in view.sessions
            ],
            trainings_url=f"/v1/trainings?cluster_id={view.cluster_id}",
            nodes=[
                NodeSummary(node_id=node.id, role=node.role, status=node.status, sandbox_id=node.sandbox_id)
                for node in view.nodes
            ],
            cost_usd=float(view.cost_usd),
        )


def _short(reason: ReasonT | None, most: int) -> ReasonT | None:
    """Return a reason with at most `most` characters of its detail."""
    return None if reason is None else reason.model_copy(update={"detail": _shortened(reason.detail, most)})


def _shortened(text: str | None, most: int) -> str | None:
    return text if text is None or len(text) <= most else f"{text[: most - 1]}…"


def _usd(amount: Any) -> float | None:
    return None if amount is None else float(amount)

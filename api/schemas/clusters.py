"""Shapes of clusters, their connections and their status."""

from typing import Annotated, Any

from pydantic import ConfigDict, Field

from api.domain import progress as clock
from api.domain.consensus import Consensus
from api.domain.specs import Architecture, ClusterSpec
from api.domain.topology import Topology
from api.schemas.base import Failure, Name, RequestModel, ResponseModel, StopReason, Timestamp
from api.schemas.trainings import TrainingPrivacy
from api.services.progress import ClusterStatusView, SessionView
from api.store.tables import ClusterRow


class ClusterCreate(RequestModel):
    name: Name
    topology: Topology = "mesh"
    architecture: Architecture = "transformer"
    daa_enabled: bool = Field(False, description="nodes may act on their own, as far as each node's `autonomy` allows")
    consensus: Consensus = Field(
        "none",
        description="proof-of-learning: workers commit to their steps, do some again when asked, and a committee votes;"
        " byzantine: Multi-Krum, the median below five updates; gossip: pairs of workers average, along a mesh or a ring;"
        " raft: an aggregator whose sandbox is gone is replaced by an elected worker",
    )
    wasm_optimization: bool = Field(False, description="predict with the exported ONNX graph, and put it into exports")
    idle_timeout_minutes: float | None = Field(
        None,
        ge=0,
        le=525_600,
        description="the cluster is terminated after so long without training, prediction, upload, download or execute; 0 ="
        " never, null = the deployment's default",
    )
    budget_usd: float | None = Field(
        None,
        gt=0,
        le=10_000_000,
        description="what its sandboxes may cost: an event at 80 %; at 100 % training stops and the cluster is terminated",
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
    architecture: Architecture
    daa_enabled: bool
    consensus: Consensus
    wasm_optimization: bool


class Cluster(ResponseModel):
    cluster_id: str = Field(examples=["cls_9x7k3m2p"])
    name: str
    topology: Topology
    status: str = Field(description="initializing, connected, training, terminating or terminated")
    created_at: Timestamp
    config: ClusterConfig
    idle_timeout_minutes: float | None = Field(description="null = the deployment's default, 0 = never")
    budget_usd: float | None = Field(description="null = no limit")

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
    topology: Topology | None = Field(None, description="null or absent: the one that the cluster was created with")


class Connection(ResponseModel):
    source: Annotated[str, Field(alias="from", examples=["node_w1_abc123"])]
    target: Annotated[str, Field(alias="to", examples=["node_w2_bcd234"], description="a node id, or `all`")]


class Connections(ResponseModel):
    cluster_id: str
    topology: Topology
    connections: list[Connection]
    status: str = Field(examples=["connected"])

    @classmethod
    def of(cls, row: ClusterRow) -> "Connections":
        return cls(
            cluster_id=row.id,
            topology=row.topology,
            connections=[Connection(**edge) for edge in row.connections],
            status=row.status,
        )


class Metrics(ResponseModel):
    """Figures of the last completed round; null before there is one."""

    global_loss: float | None = Field(
        description="sum(n_k * loss_k) / sum(n_k) over the accepted workers k: n_k training samples, loss_k the mean"
        " cross-entropy (nats) of the worker's last local epoch"
    )
    global_accuracy: float | None = Field(
        description="sum(n_k * accuracy_k) / sum(n_k): fraction of training samples right during the last local epoch, 0..1"
    )
    validation_accuracy: float | None = Field(
        description="fraction right, 0..1, of the new global model on data that no worker trained on: the aggregator's"
        " validation file and the validators' data, else the workers' held-out splits (10 %)"
    )
    convergence_rate: float | None = Field(
        description="1 - (last fall of global_loss) / (largest fall between two rounds), clipped to 0..1; 1 = the loss has"
        " stopped falling; null until three rounds are done"
    )


class WorkerProgress(ResponseModel):
    local_loss: float | None = Field(description="mean cross-entropy (nats) of the worker's last local epoch")
    local_accuracy: float | None
    samples: int | None = Field(description="training samples of its shard, held-out ones excluded")
    state: str | None = Field(description="in the newest round: training, done, rejected, failed or lost")
    reason: str | None = Field(description="why it was rejected, failed or lost")


class RedFlag(ResponseModel):
    """Something that looks wrong now. It goes when it is over; the event `training.red_flag` that raised it stays."""

    code: str = Field(
        description="divergent_worker: one worker's loss is far from the others' in two rounds running (modified z-score above"
        " 3.5 by the median absolute deviation, and a fifth of the median away); loss_diverges: the global loss rose in three"
        " rounds running, to 1.2 times its lowest; stagnation: five rounds without a better global loss, beyond noise;"
        " node_lost; node_failed; update_not_finite: an update held NaN or infinity; updates_rejected: two updates of a node"
        " running were refused"
    )
    message: str
    suggestion: str = Field(description="what to do about it")
    node_id: str | None = Field(description="null where it is about the whole training")
    round: int | None = Field(description="in which it was raised; null before the first")
    since: Timestamp


class TrainingSession(ResponseModel):
    training_id: str
    status: str
    epoch: int = Field(description="completed rounds times local_epochs, never more than total_epochs")
    total_epochs: int = Field(
        description="as asked for; a training that ended early keeps it, and `stop_reason` says why it ended"
    )
    metrics: Metrics
    workers: dict[str, WorkerProgress]
    time_elapsed: str | None = Field(description="as people read it", examples=["8m 30s"])
    estimated_completion: str | None = Field(
        description="time left: rounds left times the mean of the last five rounds; null before the first", examples=["12m 15s"]
    )
    elapsed_seconds: float | None
    remaining_seconds: float | None
    cost_usd: float = Field(description="sandbox-seconds of this training's nodes between its start and end, times their price")
    cost_per_epoch_usd: float | None
    cost_per_accuracy_point_usd: float | None = Field(description="per percentage point of validation_accuracy")
    red_flags: list[RedFlag] = Field(description="what looks wrong now; of an ended training, as it stood at its end")
    privacy: TrainingPrivacy | None
    stop_reason: StopReason | None
    error: Failure | None

    @classmethod
    def of(cls, view: SessionView) -> "TrainingSession":
        return cls(
            training_id=view.training.id,
            status=view.training.status,
            epoch=view.epoch,
            total_epochs=view.total_epochs,
            metrics=Metrics(**view.metrics),
            workers={node_id: WorkerProgress(**figures) for node_id, figures in view.workers.items()},
            time_elapsed=clock.clock(view.elapsed_seconds),
            estimated_completion=clock.clock(view.remaining_seconds),
            elapsed_seconds=view.elapsed_seconds,
            remaining_seconds=view.remaining_seconds,
            cost_usd=float(view.cost_usd),
            cost_per_epoch_usd=_usd(view.cost_per_epoch_usd),
            cost_per_accuracy_point_usd=_usd(view.cost_per_accuracy_point_usd),
            red_flags=[RedFlag(**flag.model_dump()) for flag in view.training.red_flags],
            privacy=TrainingPrivacy.of(view.training),
            stop_reason=StopReason.of(view.training.stop_reason),
            error=Failure.of(view.training.error),
        )


class NodeSummary(ResponseModel):
    node_id: str
    role: str
    status: str
    sandbox_id: str | None


class ClusterStatus(ResponseModel):
    cluster_id: str
    status: str
    training_sessions: list[TrainingSession] = Field(description="newest first, at most 50; finished ones stay listed")
    nodes: list[NodeSummary]
    cost_usd: float = Field(description="all sandbox-seconds of the cluster so far, times their price")

    @classmethod
    def of(cls, view: ClusterStatusView) -> "ClusterStatus":
        return cls(
            cluster_id=view.cluster.id,
            status=view.cluster.status,
            training_sessions=[TrainingSession.of(session) for session in view.sessions],
            nodes=[
                NodeSummary(node_id=node.id, role=node.role, status=node.status, sandbox_id=node.sandbox_id)
                for node in view.nodes
            ],
            cost_usd=float(view.cost_usd),
        )


def _usd(amount: Any) -> float | None:
    return None if amount is None else float(amount)

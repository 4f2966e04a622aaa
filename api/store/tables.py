"""The tables.

The rows are the queue: `due_at` is the time of the next step, the lease its worker.
"""

from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    Enum,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    String,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from api.domain import status
from api.domain.initial_models import InitialModel
from api.domain.late_joiners import JoinRecord
from api.domain.preparation import PreparationRecord
from api.domain.privacy import RoundPrivacyRecord, TrainingPrivacyRecord
from api.domain.records import FailureReason
from api.domain.red_flags import RaisedFlag
from api.domain.resources import NodeResources
from api.domain.searches import PlannedTrial, SearchPlan
from api.domain.specs import ClusterSettings, ExecutionRequest, PredictionInput
from api.domain.stopping import TrainingStop
from api.domain.training_progress import TrainingProgress, WorkerProgress
from api.domain.training_spec import TrainingSpec
from api.domain.webhooks import DELIVERY_STATES
from api.store.columns import Typed
from api.store.documents import ConnectionDocument, FormerSandbox, RejectedUpdatesDocument

_JSON = JSONB(none_as_null=True)


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        str: Text,
        datetime: DateTime(timezone=True),
        dict[str, Any]: _JSON,
        list[Any]: _JSON,
        list[str]: _JSON,
        float: Float(53),
    }


def _states(moves: Any, name: str) -> Enum:
    """Return a text type with a CHECK. psql shows it readably, and a new state is one migration."""
    return Enum(*moves, name=name, native_enum=False, create_constraint=True, length=32)


class Leased:
    """Columns of a row that steps advance.

    `due_at` is a time of the database's clock. One worker at a time holds the lease, with a token.
    `attempts` counts claims since the last step that did not fail. `failures` counts steps that
    failed for a cause of their own since the last progress.
    """

    due_at: Mapped[datetime | None]
    lease_token: Mapped[str | None] = mapped_column(String(32))
    lease_until: Mapped[datetime | None]
    attempts: Mapped[int] = mapped_column(server_default=text("0"), default=0)
    failures: Mapped[int] = mapped_column(server_default=text("0"), default=0)


class ProjectRow(Base):
    __tablename__ = "projects"
    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    quotas: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"), default=dict)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ApiKeyRow(Base):
    """An API key. Only a keyed hash of it is stored. `prefix` helps people to recognise it in a
    list.

    `node_id` is set for a data owner's key, which gives access only to that node's sandbox. The
    secret of `old_digest` stays valid until `old_valid_until`.
    """

    __tablename__ = "api_keys"
    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    node_id: Mapped[str | None] = mapped_column(ForeignKey("nodes.id"))
    name: Mapped[str]
    prefix: Mapped[str]
    digest: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    old_digest: Mapped[bytes | None] = mapped_column(LargeBinary, unique=True)
    old_valid_until: Mapped[datetime | None]
    scopes: Mapped[list[str]]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime | None]
    rotated_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]

    __table_args__ = (Index("ix_api_keys_page", "project_id", "created_at", "id"),)


class HeartbeatRow(Base):
    """When something last happened, by its name."""

    __tablename__ = "heartbeats"
    name: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[datetime]


class AuditRow(Base):
    """One line of the audit log. The database refuses to change or delete these rows."""

    __tablename__ = "audit"
    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    key_id: Mapped[str]
    key_prefix: Mapped[str]
    operation: Mapped[str]
    resource: Mapped[str | None]
    status: Mapped[int]
    address: Mapped[str | None]
    request_id: Mapped[str]
    detail: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"), default=dict)
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())

    __table_args__ = (Index("ix_audit_page", "project_id", "created_at", "id"),)


class IdempotencyRow(Base):
    __tablename__ = "idempotency_keys"
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[str]
    resource_id: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ClusterRow(Leased, Base):
    __tablename__ = "clusters"
    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    name: Mapped[str]
    topology: Mapped[str]
    config: Mapped[ClusterSettings] = mapped_column(Typed(ClusterSettings))
    connections: Mapped[list[ConnectionDocument]] = mapped_column(_JSON, server_default=text("'[]'"), default=list)
    members: Mapped[list[str]] = mapped_column(server_default=text("'[]'"), default=list)
    status: Mapped[str] = mapped_column(_states(status.CLUSTER_MOVES, "cluster_status"))
    node_counts: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"), default=dict)
    event_seq: Mapped[int] = mapped_column(BigInteger, server_default=text("0"), default=0)
    idle_timeout_minutes: Mapped[float | None]
    idle_warned_at: Mapped[datetime | None]
    budget_usd: Mapped[Decimal | None] = mapped_column(Numeric(14, 6))
    budget_warned_at: Mapped[datetime | None]
    last_call_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    terminated_at: Mapped[datetime | None]

    __table_args__ = (Index("ix_clusters_page", "project_id", "created_at", "id"),)


class NodeRow(Leased, Base):
    """A node: a role in a cluster.

    The sandbox of a node may be replaced. `former_sandboxes` are the earlier ones, for their cost.
    `acts_as_aggregator` is true for a promoted worker. Its role stays "worker", and so does the
    access to its sandbox.
    """

    __tablename__ = "nodes"
    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    cluster_id: Mapped[str] = mapped_column(ForeignKey("clusters.id"), index=True)
    node_type: Mapped[str]
    role: Mapped[str]
    model: Mapped[str]
    template: Mapped[str]
    autonomy: Mapped[float]
    acts_as_aggregator: Mapped[bool] = mapped_column(server_default=text("false"), default=False)
    capabilities: Mapped[list[str]]
    status: Mapped[str] = mapped_column(_states(status.NODE_MOVES, "node_status"))
    sandbox_id: Mapped[str | None] = mapped_column(unique=True)
    sandbox_expires_at: Mapped[datetime | None]
    former_sandboxes: Mapped[list[FormerSandbox]] = mapped_column(_JSON, server_default=text("'[]'"), default=list)
    agent_started_at: Mapped[datetime | None]
    resources: Mapped[NodeResources | None] = mapped_column(Typed(NodeResources))
    rejected_updates: Mapped[RejectedUpdatesDocument | None] = mapped_column(_JSON)
    price_per_minute: Mapped[Decimal] = mapped_column(Numeric(12, 6))
    data_owner: Mapped[bool] = mapped_column(server_default=text("false"), default=False)
    owner_data_at: Mapped[datetime | None]
    uploaded_bytes: Mapped[int] = mapped_column(BigInteger, server_default=text("0"), default=0)
    error: Mapped[FailureReason | None] = mapped_column(Typed(FailureReason))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    requested_at: Mapped[datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]

    __table_args__ = (
        Index("ix_nodes_page", "project_id", "created_at", "id"),
        Index("ix_nodes_due", "due_at", postgresql_where=text("due_at IS NOT NULL")),
        Index(
            "uq_nodes_one_aggregator",
            "cluster_id",
            unique=True,
            postgresql_where=text("role = 'aggregator' AND status IN ('provisioning', 'running')"),
        ),
        CheckConstraint("status != 'running' OR sandbox_id IS NOT NULL", name="running_has_sandbox"),
        CheckConstraint("autonomy BETWEEN 0 AND 1", name="autonomy_range"),
    )


class SearchRow(Leased, Base):
    """A search: trainings of one cluster, one after the other.

    `config` is common to all trials. A trial has its `options` and the `config` that they give.
    `training_ids` are the trainings of the started trials, in the order of the trials.
    """

    __tablename__ = "searches"
    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    cluster_id: Mapped[str] = mapped_column(ForeignKey("clusters.id"), index=True)
    status: Mapped[str] = mapped_column(_states(status.SEARCH_MOVES, "search_status"))
    plan: Mapped[SearchPlan] = mapped_column(Typed(SearchPlan))
    config: Mapped[dict[str, Any]]
    trials: Mapped[list[PlannedTrial]] = mapped_column(Typed(list[PlannedTrial]))
    training_ids: Mapped[list[str]] = mapped_column(server_default=text("'[]'"), default=list)
    stop_reason: Mapped[TrainingStop | None] = mapped_column(Typed(TrainingStop))
    error: Mapped[FailureReason | None] = mapped_column(Typed(FailureReason))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]

    __table_args__ = (
        Index("ix_searches_page", "project_id", "created_at", "id"),
        Index("ix_searches_due", "due_at", postgresql_where=text("due_at IS NOT NULL")),
        Index(
            "uq_searches_one_active",
            "cluster_id",
            unique=True,
            postgresql_where=text("status IN ('pending', 'running', 'stopping')"),
        ),
    )


class TrainingRow(Leased, Base):
    """A training.

    `progress` and `worker_progress` are what its rounds have changed, for the cluster's status.
    `cost_usd` is the final cost of an ended training.
    """

    __tablename__ = "trainings"
    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    cluster_id: Mapped[str] = mapped_column(ForeignKey("clusters.id"))
    search_id: Mapped[str | None] = mapped_column(ForeignKey("searches.id"))
    status: Mapped[str] = mapped_column(_states(status.TRAINING_MOVES, "training_status"))
    config: Mapped[TrainingSpec] = mapped_column(Typed(TrainingSpec))
    model: Mapped[str]
    workers: Mapped[list[str]]
    joiners: Mapped[dict[str, JoinRecord]] = mapped_column(
        Typed(dict[str, JoinRecord]), server_default=text("'{}'"), default=dict
    )
    aggregator_id: Mapped[str] = mapped_column(ForeignKey("nodes.id"))
    term: Mapped[int] = mapped_column(server_default=text("1"), default=1)
    former_aggregators: Mapped[list[str]] = mapped_column(server_default=text("'[]'"), default=list)
    preparation: Mapped[PreparationRecord | None] = mapped_column(Typed(PreparationRecord))
    labels: Mapped[list[str] | None]
    parameters: Mapped[int | None] = mapped_column(BigInteger)
    digest: Mapped[str | None]
    initial_model: Mapped[InitialModel | None] = mapped_column(Typed(InitialModel))
    completed_rounds: Mapped[int] = mapped_column(server_default=text("0"), default=0)
    progress: Mapped[TrainingProgress] = mapped_column(
        Typed(TrainingProgress), server_default=text("'{}'"), default=lambda: TrainingProgress()
    )
    # Deferred: it is large with many workers, and only the status of the cluster shows it.
    worker_progress: Mapped[dict[str, WorkerProgress]] = mapped_column(
        Typed(dict[str, WorkerProgress]), server_default=text("'{}'"), default=dict, deferred=True
    )
    cost_usd: Mapped[Decimal | None] = mapped_column(Numeric(14, 6))
    privacy: Mapped[TrainingPrivacyRecord | None] = mapped_column(Typed(TrainingPrivacyRecord))
    stop_reason: Mapped[TrainingStop | None] = mapped_column(Typed(TrainingStop))
    red_flags: Mapped[list[RaisedFlag]] = mapped_column(Typed(list[RaisedFlag]), server_default=text("'[]'"), default=list)
    error: Mapped[FailureReason | None] = mapped_column(Typed(FailureReason))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    paused_seconds: Mapped[float] = mapped_column(server_default=text("0"), default=0.0)
    paused_usd: Mapped[Decimal] = mapped_column(Numeric(12, 6), server_default=text("0"), default=Decimal(0))

    __table_args__ = (
        Index("ix_trainings_page", "project_id", "created_at", "id"),
        Index("ix_trainings_cluster_page", "cluster_id", "created_at", "id"),
        Index("ix_trainings_due", "due_at", postgresql_where=text("due_at IS NOT NULL")),
        Index(
            "uq_trainings_one_active",
            "cluster_id",
            unique=True,
            postgresql_where=text("status IN ('pending', 'training', 'stopping')"),
        ),
    )


class RoundRow(Base):
    __tablename__ = "rounds"
    training_id: Mapped[str] = mapped_column(ForeignKey("trainings.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    status: Mapped[str] = mapped_column(_states(status.ROUND_MOVES, "round_status"))
    base_digest: Mapped[str]
    digest: Mapped[str | None]
    global_loss: Mapped[float | None]
    global_accuracy: Mapped[float | None]
    validation_loss: Mapped[float | None]
    validation_accuracy: Mapped[float | None]
    validation_samples: Mapped[int | None]
    validation_source: Mapped[str | None]
    bytes_received: Mapped[int | None] = mapped_column(BigInteger)
    compression_ratio: Mapped[float | None]
    seconds: Mapped[float | None]
    train_seconds: Mapped[float | None]
    aggregate_seconds: Mapped[float | None]
    consensus_seconds: Mapped[float | None]
    consensus_distance: Mapped[float | None]
    evaluate_seconds: Mapped[float | None]
    votes: Mapped[list[Any]] = mapped_column(server_default=text("'[]'"), default=list)
    audits: Mapped[list[Any]] = mapped_column(server_default=text("'[]'"), default=list)
    late_updates: Mapped[int | None]
    data_path: Mapped[str | None]
    data_path_reason: Mapped[str | None]
    fallback: Mapped[str | None]
    links: Mapped[list[Any]] = mapped_column(server_default=text("'[]'"), default=list)
    notices: Mapped[list[Any]] = mapped_column(server_default=text("'[]'"), default=list)
    copies: Mapped[list[str]] = mapped_column(server_default=text("'[]'"), default=list)
    agent_deaths: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"), default=dict)
    error: Mapped[FailureReason | None] = mapped_column(Typed(FailureReason))
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    finished_at: Mapped[datetime | None]


class RoundNodeRow(Base):
    """One worker in one round.

    `state` is training, done, rejected, late, failed, lost, declined or not_sampled.
    """

    __tablename__ = "round_nodes"
    training_id: Mapped[str] = mapped_column(ForeignKey("trainings.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    node_id: Mapped[str] = mapped_column(ForeignKey("nodes.id"), primary_key=True)
    state: Mapped[str] = mapped_column(
        Enum(*status.ROUND_WORKER_STATES, name="round_node_state", native_enum=False, create_constraint=True, length=32)
    )
    samples: Mapped[int | None]
    local_loss: Mapped[float | None]
    local_accuracy: Mapped[float | None]
    train_seconds: Mapped[float | None]
    bytes_sent: Mapped[int | None] = mapped_column(BigInteger)
    reason: Mapped[str | None]
    commitment: Mapped[dict[str, Any] | None]
    privacy: Mapped[RoundPrivacyRecord | None] = mapped_column(Typed(RoundPrivacyRecord))
    decisions: Mapped[list[Any]] = mapped_column(server_default=text("'[]'"), default=list)


class PredictionRow(Leased, Base):
    __tablename__ = "predictions"
    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    cluster_id: Mapped[str] = mapped_column(ForeignKey("clusters.id"), index=True)
    training_id: Mapped[str] = mapped_column(ForeignKey("trainings.id"))
    status: Mapped[str] = mapped_column(_states(status.PREDICTION_MOVES, "prediction_status"))
    aggregation: Mapped[str]
    request: Mapped[PredictionInput] = mapped_column(Typed(PredictionInput))
    # Deferred: the results of many texts are large, and most readers need the status only.
    results: Mapped[dict[str, Any] | None] = mapped_column(deferred=True)
    progress: Mapped[float | None]
    input_size: Mapped[int | None] = mapped_column(BigInteger)
    input_sha256: Mapped[str | None]
    seconds: Mapped[float | None]
    nodes_used: Mapped[int | None]
    error: Mapped[FailureReason | None] = mapped_column(Typed(FailureReason))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    finished_at: Mapped[datetime | None]

    __table_args__ = (
        Index("ix_predictions_page", "project_id", "created_at", "id"),
        Index("ix_predictions_due", "due_at", postgresql_where=text("due_at IS NOT NULL")),
    )


class ModelRow(Leased, Base):
    """An exported model: a folder in the aggregator's sandbox, and a copy of the control plane."""

    __tablename__ = "models"
    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    cluster_id: Mapped[str] = mapped_column(ForeignKey("clusters.id"), index=True)
    training_id: Mapped[str] = mapped_column(ForeignKey("trainings.id"))
    status: Mapped[str] = mapped_column(_states(status.MODEL_MOVES, "model_status"))
    name: Mapped[str]
    digest: Mapped[str]
    path: Mapped[str | None]
    size: Mapped[int | None] = mapped_column(BigInteger)
    sha256: Mapped[str | None]
    files: Mapped[list[Any]] = mapped_column(server_default=text("'[]'"), default=list)
    progress: Mapped[float | None]
    error: Mapped[FailureReason | None] = mapped_column(Typed(FailureReason))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    finished_at: Mapped[datetime | None]

    __table_args__ = (
        Index("ix_models_page", "project_id", "created_at", "id"),
        Index("ix_models_due", "due_at", postgresql_where=text("due_at IS NOT NULL")),
        Index(
            "uq_models_name",
            "training_id",
            "name",
            unique=True,
            postgresql_where=text("status NOT IN ('failed', 'cancelled', 'expired')"),
        ),
    )


class ExecutionRow(Leased, Base):
    """Code in the background of a sandbox.

    Its output stays in the sandbox, so this row has only its sizes. `request` has the code and is
    None once the code has begun. `has_output` is true until the output was removed.
    """

    __tablename__ = "executions"
    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    cluster_id: Mapped[str] = mapped_column(ForeignKey("clusters.id"), index=True)
    node_id: Mapped[str] = mapped_column(ForeignKey("nodes.id"))
    sandbox_id: Mapped[str]
    status: Mapped[str] = mapped_column(_states(status.EXECUTION_MOVES, "execution_status"))
    # Deferred: code and its standard input can be large, and only one step needs them.
    request: Mapped[ExecutionRequest | None] = mapped_column(Typed(ExecutionRequest), deferred=True)
    language: Mapped[str | None]
    timeout_s: Mapped[float]
    exit_code: Mapped[int | None]
    limit: Mapped[str | None]
    stdout_bytes: Mapped[int] = mapped_column(BigInteger, server_default=text("0"), default=0)
    stderr_bytes: Mapped[int] = mapped_column(BigInteger, server_default=text("0"), default=0)
    has_output: Mapped[bool] = mapped_column(server_default=text("true"), default=True)
    error: Mapped[FailureReason | None] = mapped_column(Typed(FailureReason))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]

    __table_args__ = (
        Index("ix_executions_page", "node_id", "created_at", "id"),
        Index("ix_executions_due", "due_at", postgresql_where=text("due_at IS NOT NULL")),
        Index(
            "ix_executions_active",
            "project_id",
            postgresql_where=text("status IN ('pending', 'running', 'cancelling')"),
        ),
    )


class WebhookRow(Leased, Base):
    """An address that gets the events of a project. The lease covers all of its deliveries.

    `event_types` has types and groups such as `round.*`. `failing_since` is the time of the first
    failure since the last success. `disabled_at` is set when the service switched it off.
    """

    __tablename__ = "webhooks"
    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    name: Mapped[str]
    url: Mapped[str]
    event_types: Mapped[list[str]]
    enabled: Mapped[bool] = mapped_column(server_default=text("true"), default=True)
    failing_since: Mapped[datetime | None]
    disabled_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (
        Index("ix_webhooks_page", "project_id", "created_at", "id"),
        Index("ix_webhooks_due", "due_at", postgresql_where=text("due_at IS NOT NULL")),
    )


class WebhookDeliveryRow(Base):
    """One event for one webhook. `cluster_id` and `seq` name the event; a test has none.

    `due_at` is the time of the next attempt, None when there is none.
    """

    __tablename__ = "webhook_deliveries"
    id: Mapped[str] = mapped_column(primary_key=True)
    webhook_id: Mapped[str] = mapped_column(ForeignKey("webhooks.id", ondelete="CASCADE"))
    cluster_id: Mapped[str | None]
    seq: Mapped[int | None] = mapped_column(BigInteger)
    event_type: Mapped[str]
    status: Mapped[str] = mapped_column(_states(DELIVERY_STATES, "delivery_status"))
    attempts: Mapped[int] = mapped_column(server_default=text("0"), default=0)
    due_at: Mapped[datetime | None]
    give_up_at: Mapped[datetime]
    status_code: Mapped[int | None]
    duration_ms: Mapped[float | None]
    error: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)

    __table_args__ = (
        Index("ix_webhook_deliveries_page", "webhook_id", "created_at", "id"),
        Index("ix_webhook_deliveries_due", "webhook_id", "due_at", postgresql_where=text("due_at IS NOT NULL")),
    )


class MlflowRunRow(Leased, Base):
    """What an MLflow server has of a training. `id` is the training's.

    `status` is the training's status that the run shows. `rounds` is the last round that was sent.
    `exports` has the ids of the models that were sent. `failing_since` is the time of the first
    failure since the last success. After `given_up_at` nothing is sent any more.
    """

    __tablename__ = "mlflow_runs"
    id: Mapped[str] = mapped_column(ForeignKey("trainings.id", ondelete="CASCADE"), primary_key=True)
    run_id: Mapped[str | None]
    status: Mapped[str | None]
    rounds: Mapped[int] = mapped_column(server_default=text("0"), default=0)
    exports: Mapped[list[str]] = mapped_column(server_default=text("'[]'"), default=list)
    failing_since: Mapped[datetime | None]
    given_up_at: Mapped[datetime | None]

    __table_args__ = (Index("ix_mlflow_runs_due", "due_at", postgresql_where=text("due_at IS NOT NULL")),)


class EventRow(Base):
    """An event of a cluster. `seq` counts from 1 in commit order, without gaps in a cluster."""

    __tablename__ = "events"
    cluster_id: Mapped[str] = mapped_column(ForeignKey("clusters.id", ondelete="CASCADE"), primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    training_id: Mapped[str | None] = mapped_column(index=True)
    type: Mapped[str]
    data: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)

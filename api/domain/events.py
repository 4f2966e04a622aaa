"""The catalogue of event types: what each one means and which fields its data has."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class EventType(StrEnum):
    """What can happen in a cluster. `api.store.events.emit` accepts nothing else.

    A change of a row's status emits `<noun>.<status>`.
    """

    CLUSTER_INITIALIZING = "cluster.initializing"
    CLUSTER_CONNECTED = "cluster.connected"
    CLUSTER_TRAINING = "cluster.training"
    CLUSTER_TERMINATING = "cluster.terminating"
    CLUSTER_TERMINATED = "cluster.terminated"
    CLUSTER_BUDGET_WARNING = "cluster.budget_warning"
    CLUSTER_BUDGET_SPENT = "cluster.budget_spent"
    CLUSTER_IDLE_WARNING = "cluster.idle_warning"
    CLUSTER_IDLE_TIMEOUT = "cluster.idle_timeout"

    NODE_PROVISIONING = "node.provisioning"
    NODE_RUNNING = "node.running"
    NODE_LOST = "node.lost"
    NODE_FAILED = "node.failed"
    NODE_TERMINATING = "node.terminating"
    NODE_TERMINATED = "node.terminated"
    NODE_GONE = "node.gone"
    NODE_FILES_LOST = "node.files_lost"
    NODE_FLAGGED = "node.flagged"
    NODE_DECISION = "node.decision"

    TRAINING_PENDING = "training.pending"
    TRAINING_PREPARING = "training.preparing"
    TRAINING_TRAINING = "training.training"
    TRAINING_REFUSED = "training.refused"
    TRAINING_STOPPING = "training.stopping"
    TRAINING_STOPPED = "training.stopped"
    TRAINING_COMPLETED = "training.completed"
    TRAINING_FAILED = "training.failed"
    TRAINING_RED_FLAG = "training.red_flag"
    TRAINING_AGGREGATOR_PROMOTED = "training.aggregator_promoted"
    TRAINING_WORKER_JOINED = "training.worker_joined"

    ROUND_STARTED = "round.started"
    ROUND_COMPLETED = "round.completed"
    ROUND_FALLBACK = "round.fallback"
    ROUND_WORKER_REJECTED = "round.worker_rejected"
    ROUND_WORKER_LATE = "round.worker_late"
    ROUND_WORKER_LOST = "round.worker_lost"
    ROUND_WORKER_FAILED = "round.worker_failed"
    ROUND_WORKER_DECLINED = "round.worker_declined"

    PREDICTION_PENDING = "prediction.pending"
    PREDICTION_COMPLETED = "prediction.completed"
    PREDICTION_FAILED = "prediction.failed"
    PREDICTION_CANCELLED = "prediction.cancelled"

    MODEL_PENDING = "model.pending"
    MODEL_COMPLETED = "model.completed"
    MODEL_FAILED = "model.failed"
    MODEL_CANCELLED = "model.cancelled"
    MODEL_EXPIRED = "model.expired"

    EXECUTION_PENDING = "execution.pending"
    EXECUTION_RUNNING = "execution.running"
    EXECUTION_CANCELLING = "execution.cancelling"
    EXECUTION_COMPLETED = "execution.completed"
    EXECUTION_FAILED = "execution.failed"
    EXECUTION_CANCELLED = "execution.cancelled"

    SEARCH_PENDING = "search.pending"
    SEARCH_RUNNING = "search.running"
    SEARCH_STOPPING = "search.stopping"
    SEARCH_STOPPED = "search.stopped"
    SEARCH_COMPLETED = "search.completed"
    SEARCH_FAILED = "search.failed"
    SEARCH_TRIAL_STARTED = "search.trial_started"
    SEARCH_TRIAL_ENDED = "search.trial_ended"


@dataclass(frozen=True, slots=True)
class EventDescription:
    """The meaning of an event type in one sentence, and the fields that its data can have."""

    meaning: str
    fields: tuple[str, ...]


def _event(meaning: str, fields: str) -> EventDescription:
    return EventDescription(meaning, tuple(fields.split()))


CATALOGUE: Final[Mapping[EventType, EventDescription]] = {
    EventType.CLUSTER_INITIALIZING: _event("The cluster was created.", "cluster_id from status"),
    EventType.CLUSTER_CONNECTED: _event(
        "The nodes were connected, or the last training ended.", "cluster_id from status topology"
    ),
    EventType.CLUSTER_TRAINING: _event("A training began in the cluster.", "cluster_id from status training_id"),
    EventType.CLUSTER_TERMINATING: _event(
        "The cluster is being terminated; its work is stopped first.", "cluster_id from status reason"
    ),
    EventType.CLUSTER_TERMINATED: _event("Every sandbox of the cluster has ended.", "cluster_id from status"),
    EventType.CLUSTER_BUDGET_WARNING: _event("80 % of the budget is spent.", "cluster_id budget_usd cost_usd"),
    EventType.CLUSTER_BUDGET_SPENT: _event(
        "The budget is spent; the cluster is terminated next.", "cluster_id budget_usd cost_usd"
    ),
    EventType.CLUSTER_IDLE_WARNING: _event(
        "The cluster is idle and will soon be terminated.", "cluster_id idle_minutes timeout_minutes"
    ),
    EventType.CLUSTER_IDLE_TIMEOUT: _event(
        "The cluster was idle for too long; it is terminated next.", "cluster_id idle_minutes timeout_minutes"
    ),
    EventType.NODE_PROVISIONING: _event("The node's sandbox is being started.", "node_id from status role reason"),
    EventType.NODE_RUNNING: _event("The node's agent answers.", "node_id from status role sandbox_id"),
    EventType.NODE_LOST: _event(
        "The node stopped answering; the control plane tries to restart it.", "node_id from status reason"
    ),
    EventType.NODE_FAILED: _event("The node could not be started.", "node_id from status error"),
    EventType.NODE_TERMINATING: _event("The node is being terminated.", "node_id from status"),
    EventType.NODE_TERMINATED: _event("The node's sandbox has ended.", "node_id from status"),
    EventType.NODE_GONE: _event("The sandbox of a lost node does not come back.", "node_id role code detail"),
    EventType.NODE_FILES_LOST: _event(
        "The node got a new sandbox; the files that were uploaded to the old one are lost.", "node_id role detail"
    ),
    EventType.NODE_FLAGGED: _event(
        "An update of the node was rejected for its content.", "node_id training_id round reason count"
    ),
    EventType.NODE_DECISION: _event(
        "The node decided something by itself, as its autonomy allows.", "training_id node_id round action reason at"
    ),
    EventType.TRAINING_PENDING: _event(
        "The training was created, resumed or extended; its data is checked next.",
        "training_id from status workers aggregator reason epochs",
    ),
    EventType.TRAINING_PREPARING: _event(
        "The agents still read the data; sent every 20 seconds or so.", "training_id progress nodes"
    ),
    EventType.TRAINING_TRAINING: _event(
        "The workers' data was accepted and the rounds begin.", "training_id from status parameters model_bytes labels"
    ),
    EventType.TRAINING_REFUSED: _event("The workers' data cannot be trained on.", "training_id from status error"),
    EventType.TRAINING_STOPPING: _event("The training is being stopped.", "training_id from status reason"),
    EventType.TRAINING_STOPPED: _event(
        "The training was stopped; its last completed round is kept.", "training_id from status stop_reason error"
    ),
    EventType.TRAINING_COMPLETED: _event(
        "The training ended with its last round or by one of its stopping rules.", "training_id from status stop_reason"
    ),
    EventType.TRAINING_FAILED: _event("The training failed.", "training_id from status error"),
    EventType.TRAINING_RED_FLAG: _event(
        "The figures of the training look wrong; sent once for each new flag.",
        "training_id code message suggestion node_id round since",
    ),
    EventType.TRAINING_AGGREGATOR_PROMOTED: _event(
        "The workers elected one of them as the new aggregator.",
        "training_id from to term votes completed_rounds digest",
    ),
    EventType.TRAINING_WORKER_JOINED: _event(
        "A worker has joined the running training; it takes part from this round on.",
        "training_id node_id round samples workers",
    ),
    EventType.ROUND_STARTED: _event("A round began.", "training_id round workers data_path data_path_reason"),
    EventType.ROUND_COMPLETED: _event(
        "A round was aggregated.",
        "training_id round epoch total_epochs global_loss global_accuracy validation_accuracy seconds accepted rejected"
        " notices workers",
    ),
    EventType.ROUND_FALLBACK: _event(
        "The round left its topology for the aggregator (star).", "training_id round data_path reason"
    ),
    EventType.ROUND_WORKER_REJECTED: _event("A worker's update was rejected.", "training_id round node_id reason"),
    EventType.ROUND_WORKER_LATE: _event(
        "A worker's update did not arrive before the round's deadline.", "training_id round node_id reason"
    ),
    EventType.ROUND_WORKER_LOST: _event("A worker was lost during the round.", "training_id round node_id reason"),
    EventType.ROUND_WORKER_FAILED: _event("A worker's local training failed.", "training_id round node_id reason"),
    EventType.ROUND_WORKER_DECLINED: _event(
        "A worker declined the round by its own decision.", "training_id round node_id reason"
    ),
    EventType.PREDICTION_PENDING: _event("The prediction was requested.", "prediction_id training_id from status"),
    EventType.PREDICTION_COMPLETED: _event(
        "The prediction was computed.", "prediction_id training_id from status nodes_used seconds"
    ),
    EventType.PREDICTION_FAILED: _event("The prediction failed.", "prediction_id training_id from status error"),
    EventType.PREDICTION_CANCELLED: _event("The prediction was cancelled.", "prediction_id training_id from status"),
    EventType.MODEL_PENDING: _event("The export of a model was requested.", "model_id training_id from status name"),
    EventType.MODEL_COMPLETED: _event("The model was exported.", "model_id training_id from status name size"),
    EventType.MODEL_FAILED: _event("The export of the model failed.", "model_id training_id from status error"),
    EventType.MODEL_CANCELLED: _event("The export of the model was cancelled.", "model_id training_id from status name"),
    EventType.MODEL_EXPIRED: _event(
        "The files of the exported model were deleted, as the retention period is over.",
        "model_id training_id from status name",
    ),
    EventType.EXECUTION_PENDING: _event(
        "Code for the background of a sandbox was accepted.", "execution_id from status node_id"
    ),
    EventType.EXECUTION_RUNNING: _event("The code began to run.", "execution_id from status"),
    EventType.EXECUTION_CANCELLING: _event("The code is being ended.", "execution_id from status"),
    EventType.EXECUTION_COMPLETED: _event(
        "The code ended by itself or by a limit.", "execution_id from status exit_code limit"
    ),
    EventType.EXECUTION_FAILED: _event(
        "The code could not be started, or its end is not known.", "execution_id from status error"
    ),
    EventType.EXECUTION_CANCELLED: _event("The code was ended as asked.", "execution_id from status"),
    EventType.SEARCH_PENDING: _event("The search was created.", "search_id from status trials metric"),
    EventType.SEARCH_RUNNING: _event("The first training of the search began.", "search_id from status"),
    EventType.SEARCH_STOPPING: _event("The search is being stopped.", "search_id from status reason"),
    EventType.SEARCH_STOPPED: _event(
        "The search was stopped.", "search_id from status best_training_id trained trials stop_reason error"
    ),
    EventType.SEARCH_COMPLETED: _event(
        "The search has ended and names its best training.",
        "search_id from status best_training_id trained trials stop_reason error",
    ),
    EventType.SEARCH_FAILED: _event(
        "The search failed.", "search_id from status best_training_id trained trials stop_reason error"
    ),
    EventType.SEARCH_TRIAL_STARTED: _event("A training of the search began.", "search_id trial training_id options"),
    EventType.SEARCH_TRIAL_ENDED: _event("A training of the search ended.", "search_id trial training_id status metric epochs"),
}

WORKER_STATE_EVENTS: Final[Mapping[str, EventType]] = {
    "rejected": EventType.ROUND_WORKER_REJECTED,
    "late": EventType.ROUND_WORKER_LATE,
    "lost": EventType.ROUND_WORKER_LOST,
    "failed": EventType.ROUND_WORKER_FAILED,
    "declined": EventType.ROUND_WORKER_DECLINED,
}
"""The event for each state in which a worker does not take part in a round's aggregate."""


def as_markdown() -> str:
    """Return the catalogue as a Markdown table, for the API's documentation."""
    rows = [
        f"| `{event_type}` | {described.meaning} | {', '.join(f'`{name}`' for name in described.fields)} |"
        for event_type, described in CATALOGUE.items()
    ]
    return "\n".join(["| Type | Meaning | Fields of `data` |", "|---|---|---|", *rows])

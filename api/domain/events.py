"""The event types, and what each one means. `api.schemas.events` has their fields."""

from collections.abc import Mapping
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

    WEBHOOK_DISABLED = "webhook.disabled"


MEANINGS: Final[Mapping[EventType, str]] = {
    EventType.CLUSTER_INITIALIZING: "The cluster was created.",
    EventType.CLUSTER_CONNECTED: "The nodes were connected, or the last training ended.",
    EventType.CLUSTER_TRAINING: "A training began in the cluster.",
    EventType.CLUSTER_TERMINATING: "The cluster is being terminated; its work is stopped first.",
    EventType.CLUSTER_TERMINATED: "Every sandbox of the cluster has ended.",
    EventType.CLUSTER_BUDGET_WARNING: "80 % of the budget is spent.",
    EventType.CLUSTER_BUDGET_SPENT: "The budget is spent; the cluster is terminated next.",
    EventType.CLUSTER_IDLE_WARNING: "The cluster is idle and will soon be terminated.",
    EventType.CLUSTER_IDLE_TIMEOUT: "The cluster was idle for too long; it is terminated next.",
    EventType.NODE_PROVISIONING: "The node's sandbox is being started.",
    EventType.NODE_RUNNING: "The node's agent answers.",
    EventType.NODE_LOST: "The node stopped answering; the control plane tries to restart it.",
    EventType.NODE_FAILED: "The node could not be started.",
    EventType.NODE_TERMINATING: "The node is being terminated.",
    EventType.NODE_TERMINATED: "The node's sandbox has ended.",
    EventType.NODE_GONE: "The sandbox of a lost node does not come back.",
    EventType.NODE_FILES_LOST: "The node got a new sandbox; the files that were uploaded to the old one are lost.",
    EventType.NODE_FLAGGED: "An update of the node was rejected for its content.",
    EventType.NODE_DECISION: "The node decided something by itself, as its autonomy allows.",
    EventType.TRAINING_PENDING: "The training was created, resumed or extended; its data is checked next.",
    EventType.TRAINING_PREPARING: "The agents still read the data; sent every 20 seconds or so.",
    EventType.TRAINING_TRAINING: "The workers' data was accepted and the rounds begin.",
    EventType.TRAINING_REFUSED: "The workers' data cannot be trained on.",
    EventType.TRAINING_STOPPING: "The training is being stopped.",
    EventType.TRAINING_STOPPED: "The training was stopped; its last completed round is kept.",
    EventType.TRAINING_COMPLETED: "The training ended with its last round or by one of its stopping rules.",
    EventType.TRAINING_FAILED: "The training failed.",
    EventType.TRAINING_RED_FLAG: "The figures of the training look wrong; sent once for each new flag.",
    EventType.TRAINING_AGGREGATOR_PROMOTED: "The workers elected one of them as the new aggregator.",
    EventType.TRAINING_WORKER_JOINED: "A worker has joined the running training; it takes part from this round on.",
    EventType.ROUND_STARTED: "A round began.",
    EventType.ROUND_COMPLETED: "A round was aggregated.",
    EventType.ROUND_FALLBACK: "The round left its topology for the aggregator (star).",
    EventType.ROUND_WORKER_REJECTED: "A worker's update was rejected.",
    EventType.ROUND_WORKER_LATE: "A worker's update did not arrive before the round's deadline.",
    EventType.ROUND_WORKER_LOST: "A worker was lost during the round.",
    EventType.ROUND_WORKER_FAILED: "A worker's local training failed.",
    EventType.ROUND_WORKER_DECLINED: "A worker declined the round by its own decision.",
    EventType.PREDICTION_PENDING: "The prediction was requested.",
    EventType.PREDICTION_COMPLETED: "The prediction was computed.",
    EventType.PREDICTION_FAILED: "The prediction failed.",
    EventType.PREDICTION_CANCELLED: "The prediction was cancelled.",
    EventType.MODEL_PENDING: "The export of a model was requested.",
    EventType.MODEL_COMPLETED: "The model was exported.",
    EventType.MODEL_FAILED: "The export of the model failed.",
    EventType.MODEL_CANCELLED: "The export of the model was cancelled.",
    EventType.MODEL_EXPIRED: "The files of the exported model were deleted, as the retention period is over.",
    EventType.EXECUTION_PENDING: "Code for the background of a sandbox was accepted.",
    EventType.EXECUTION_RUNNING: "The code began to run.",
    EventType.EXECUTION_CANCELLING: "The code is being ended.",
    EventType.EXECUTION_COMPLETED: "The code ended by itself or by a limit.",
    EventType.EXECUTION_FAILED: "The code could not be started, or its end is not known.",
    EventType.EXECUTION_CANCELLED: "The code was ended as asked.",
    EventType.SEARCH_PENDING: "The search was created.",
    EventType.SEARCH_RUNNING: "The first training of the search began.",
    EventType.SEARCH_STOPPING: "The search is being stopped.",
    EventType.SEARCH_STOPPED: "The search was stopped.",
    EventType.SEARCH_COMPLETED: "The search has ended and names its best training.",
    EventType.SEARCH_FAILED: "The search failed.",
    EventType.SEARCH_TRIAL_STARTED: "A training of the search began.",
    EventType.SEARCH_TRIAL_ENDED: "A training of the search ended.",
    EventType.WEBHOOK_DISABLED: "A webhook was switched off, as its deliveries had failed for five days.",
}

WORKER_STATE_EVENTS: Final[Mapping[str, EventType]] = {
    "rejected": EventType.ROUND_WORKER_REJECTED,
    "late": EventType.ROUND_WORKER_LATE,
    "lost": EventType.ROUND_WORKER_LOST,
    "failed": EventType.ROUND_WORKER_FAILED,
    "declined": EventType.ROUND_WORKER_DECLINED,
}
"""The event for each state in which a worker does not take part in a round's aggregate."""


def matching(name: str) -> frozenset[str]:
    """Return the types that a name means: one type, or with `round.*` all that begin so."""
    if name.endswith(".*"):
        return frozenset(event_type.value for event_type in EventType if event_type.startswith(name[:-1]))
    return frozenset({name} & {event_type.value for event_type in EventType})

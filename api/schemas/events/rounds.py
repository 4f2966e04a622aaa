"""Events of rounds."""

from typing import Literal

from api.domain.topology import DataPath
from api.schemas.base import Figure, Int64, ResponseModel
from api.schemas.events.base import EventBase


class RoundStartedEvent(EventBase):
    """A round began."""

    type: Literal["round.started"]
    round: int
    workers: list[str]
    data_path: DataPath | None
    data_path_reason: str | None


class EventWorker(ResponseModel):
    """The figures of a worker in a round."""

    local_loss: Figure | None
    samples: Int64 | None


class RoundCompletedEvent(EventBase):
    """A round was aggregated."""

    type: Literal["round.completed"]
    round: int
    epoch: int
    total_epochs: int
    global_loss: Figure | None
    global_accuracy: Figure | None
    validation_accuracy: Figure | None
    seconds: Figure | None
    accepted: list[str]
    rejected: dict[str, str]
    notices: list[str]
    worker_figures: dict[str, EventWorker]


class RoundFallbackEvent(EventBase):
    """The round left its topology for the aggregator (star)."""

    type: Literal["round.fallback"]
    round: int
    data_path: DataPath | None
    reason: str


class RoundWorkerEvent(EventBase):
    """A worker has no part in the aggregate of the round."""

    type: Literal[
        "round.worker_rejected", "round.worker_late", "round.worker_lost", "round.worker_failed", "round.worker_declined"
    ]
    round: int
    node_id: str
    reason: str | None

"""Events of trainings and searches."""

from typing import Literal

from pydantic import Field

from api.domain.early_stopping import Metric
from api.domain.red_flags import RedFlagCode
from api.domain.status import SearchState, TrainingState, TrialState
from api.schemas.base import Figure, Int64, StopReason
from api.schemas.events.base import EventBase, EventFailure
from api.schemas.space import OptionValue
from api.schemas.trainings import NodeReading


class TrainingStateEvent(EventBase):
    """The status of the training has changed."""

    type: Literal[
        "training.pending",
        "training.training",
        "training.refused",
        "training.stopping",
        "training.stopped",
        "training.completed",
        "training.failed",
    ]
    from_: TrainingState | None = Field(alias="from")
    status: TrainingState
    workers: list[str] | None
    aggregator: str | None
    epochs: int | None
    parameters: Int64 | None
    model_bytes: Int64 | None
    labels: list[str] | None
    skipped_rows: dict[str, Int64] | None
    reason: str | None
    stop_reason: StopReason | None
    error: EventFailure | None


class TrainingPreparingEvent(EventBase):
    """The agents still read the data. It comes about every 20 seconds."""

    type: Literal["training.preparing"]
    progress: Figure
    nodes: dict[str, NodeReading]


class TrainingRedFlagEvent(EventBase):
    """The figures of the training look wrong. It comes once for each new flag."""

    type: Literal["training.red_flag"]
    code: RedFlagCode
    message: str
    suggestion: str
    node_id: str | None
    round: int | None
    since: str


class TrainingAggregatorPromotedEvent(EventBase):
    """The workers elected one of them as the new aggregator."""

    type: Literal["training.aggregator_promoted"]
    from_: str = Field(alias="from")
    to: str
    term: int
    votes: list[str]
    completed_rounds: int
    digest: str | None


class TrainingWorkerJoinedEvent(EventBase):
    """A worker has joined the running training, from this round on."""

    type: Literal["training.worker_joined"]
    node_id: str
    round: int
    samples: Int64 | None
    workers: list[str]


class SearchStateEvent(EventBase):
    """The status of the search has changed."""

    type: Literal["search.pending", "search.running", "search.stopping", "search.stopped", "search.completed", "search.failed"]
    search_id: str
    from_: SearchState | None = Field(alias="from")
    status: SearchState
    trials: int | None
    trained: int | None
    metric: Metric | None
    best_training_id: str | None
    reason: str | None
    stop_reason: StopReason | None
    error: EventFailure | None


class SearchTrialStartedEvent(EventBase):
    """A training of the search began."""

    type: Literal["search.trial_started"]
    search_id: str
    trial: int
    options: dict[str, OptionValue]


class SearchTrialEndedEvent(EventBase):
    """A training of the search ended."""

    type: Literal["search.trial_ended"]
    search_id: str
    trial: int
    status: TrialState
    metric: Figure | None
    epochs: int

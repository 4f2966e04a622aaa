"""Events of predictions, exported models and executions."""

from typing import Literal

from pydantic import Field

from api.domain.sandboxes import ExecutionLimit
from api.domain.status import ExecutionState, ModelState, PredictionState
from api.schemas.base import Figure, Int64
from api.schemas.events.base import EventBase, EventFailure


class PredictionStateEvent(EventBase):
    """The status of the prediction has changed."""

    type: Literal["prediction.pending", "prediction.completed", "prediction.failed", "prediction.cancelled"]
    prediction_id: str
    from_: PredictionState | None = Field(alias="from")
    status: PredictionState
    nodes_used: int | None
    seconds: Figure | None
    error: EventFailure | None


class ModelStateEvent(EventBase):
    """The status of the exported model has changed."""

    type: Literal["model.pending", "model.completed", "model.failed", "model.cancelled", "model.expired"]
    model_id: str
    from_: ModelState | None = Field(alias="from")
    status: ModelState
    name: str | None
    size: Int64 | None
    error: EventFailure | None


class ExecutionStateEvent(EventBase):
    """The status of the execution has changed."""

    type: Literal[
        "execution.pending",
        "execution.running",
        "execution.cancelling",
        "execution.completed",
        "execution.failed",
        "execution.cancelled",
    ]
    execution_id: str
    from_: ExecutionState | None = Field(alias="from")
    status: ExecutionState
    node_id: str | None
    exit_code: int | None
    limit: ExecutionLimit | None
    error: EventFailure | None

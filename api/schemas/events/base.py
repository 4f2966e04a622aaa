"""What every event has."""

from pydantic import ConfigDict, Field

from api.schemas.base import Failure, Int64, ResponseModel, Timestamp
from api.schemas.problems import ProblemField


class EventBase(ResponseModel):
    """What every event has. A field that is not known, or has no meaning for the type, is null."""

    model_config = ConfigDict(extra="forbid", serialize_by_alias=True)

    id: Int64 = Field(description="The number of the event in its cluster, from 1.")
    cluster_id: str
    training_id: str | None
    time: Timestamp


class EventFailure(Failure):
    """Why something failed. A refusal also has its HTTP status and the wrong fields."""

    status: int | None = None
    errors: list[ProblemField] | None = None

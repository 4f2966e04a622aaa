"""All events as one union, and how the API writes an event."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, get_args

from pydantic import BaseModel, Field, TypeAdapter
from typing_extensions import TypeAliasType

from api.domain.events import EventType
from api.domain.figures import rounded_figures
from api.schemas.base import Int64, ResponseModel, Timestamp
from api.schemas.events import clusters, jobs, rounds, trainings, webhooks
from api.schemas.events.base import EventBase
from api.store.tables import EventRow

_Union = (
    clusters.ClusterStateEvent
    | clusters.ClusterBudgetEvent
    | clusters.ClusterIdleEvent
    | clusters.NodeStateEvent
    | clusters.NodeGoneEvent
    | clusters.NodeFilesLostEvent
    | clusters.NodeFlaggedEvent
    | clusters.NodeDecisionEvent
    | trainings.TrainingStateEvent
    | trainings.TrainingPreparingEvent
    | trainings.TrainingRedFlagEvent
    | trainings.TrainingAggregatorPromotedEvent
    | trainings.TrainingWorkerJoinedEvent
    | rounds.RoundStartedEvent
    | rounds.RoundCompletedEvent
    | rounds.RoundFallbackEvent
    | rounds.RoundWorkerEvent
    | jobs.PredictionStateEvent
    | jobs.ModelStateEvent
    | jobs.ExecutionStateEvent
    | trainings.SearchStateEvent
    | trainings.SearchTrialStartedEvent
    | trainings.SearchTrialEndedEvent
    | webhooks.WebhookDisabledEvent
)
ClusterEvent = TypeAliasType(
    "ClusterEvent", Annotated[_Union, Field(discriminator="type", description="An event. `type` says which fields it has.")]
)
_TIME: Final = TypeAdapter(Timestamp)


def types_of(model: type[EventBase]) -> tuple[EventType, ...]:
    """Return the event types that a class stands for."""
    return tuple(EventType(value) for value in get_args(model.model_fields["type"].annotation))


MODELS: Final[Mapping[EventType, type[EventBase]]] = {
    event_type: model for model in get_args(_Union) for event_type in types_of(model)
}
_FIELDS: Final[Mapping[str, dict[str, None]]] = {
    event_type.value: dict.fromkeys(field.alias or name for name, field in model.model_fields.items())
    for event_type, model in MODELS.items()
}


class ClusterEventPage(ResponseModel):
    """One page of events, the oldest first."""

    items: list[ClusterEvent]
    next_after: Int64 = Field(description="The value of ?after= for the events that follow, now or later.")


class WrittenPage(BaseModel):
    """A page whose events were written before, perhaps by another version of the service."""

    items: list[dict[str, Any]]
    next_after: int


def written(event: EventRow) -> dict[str, Any]:
    """Return an event as streams and pages have it, with each field of its type."""
    return {
        **_FIELDS.get(event.type, {}),
        "id": event.seq,
        "type": event.type,
        "cluster_id": event.cluster_id,
        "training_id": event.training_id,
        "time": _TIME.dump_python(event.created_at, mode="json"),
        **rounded_figures(event.data),
    }


def page(events: Sequence[EventRow], after: int) -> WrittenPage:
    """Return a page of events. `after` is the number that the request gave."""
    return WrittenPage(items=[written(event) for event in events], next_after=events[-1].seq if events else after)

"""Parameters that say which events an answer has."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header, Query

from api.domain.errors import FieldError, InvalidError
from api.domain.events import matching

After = Annotated[int, Query(ge=0, le=2**62, description="Only events with a larger id.")]
Types = Annotated[
    str | None,
    Query(
        max_length=2000,
        description="Only events of these types, with commas between them. `round.*` has all types that begin with `round.`.",
        examples=["round.completed,training.*"],
    ),
]
Follow = Annotated[bool, Query(description="false: send the events so far, then end.")]
LastEventId = Annotated[
    str | None,
    Header(
        alias="Last-Event-ID",
        description="The id of the last event that a reconnecting client has received.",
        pattern=r"^\d{1,18}$",
    ),
]


@dataclass(frozen=True, slots=True)
class EventSelection:
    """Events with a number above `after`. Without `types` they are of every type."""

    after: int
    types: frozenset[str]


def _selected(types: str | None) -> frozenset[str]:
    """Return the event types that a request names. None are all.

    Raises:
        InvalidError: no type matches a name.
    """
    names = [name.strip() for name in (types or "").split(",") if name.strip()]
    found = {name: matching(name) for name in names}
    unknown = [name for name, matches in found.items() if not matches]
    if unknown:
        message = f"there is no event type {unknown[0]!r}; `EventType` in openapi.json lists them, and `round.*` means several"
        raise InvalidError("invalid_request", f"/types: {message}", errors=(FieldError("/types", message),))
    return frozenset().union(*found.values())


async def get_selection(after: After = 0, types: Types = None) -> EventSelection:
    return EventSelection(after, _selected(types))


async def get_stream_selection(after: After = 0, types: Types = None, last_event_id: LastEventId = None) -> EventSelection:
    return EventSelection(int(last_event_id or after), _selected(types))


Selection = Annotated[EventSelection, Depends(get_selection)]
StreamSelection = Annotated[EventSelection, Depends(get_stream_selection)]

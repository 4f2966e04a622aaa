"""The schemas of events: the types by name, and the fields that all events have written once."""

from typing import Any, Final

from api.domain.events import EventType
from api.schemas.events.base import EventBase
from api.schemas.events.union import MODELS

_PREFIX: Final = "#/components/schemas/"


def inherit(schemas: dict[str, Any]) -> None:
    """Turn the schema of each event into `EventBase` and the fields of its own. Add `EventType`."""
    schemas["EventType"] = {
        "description": "What happened. A type with `.*` at its end, such as `round.*`, means several in `?types=`.",
        "type": "string",
        "enum": [event_type.value for event_type in EventType],
    }
    base = EventBase.model_json_schema(by_alias=True)
    schemas[EventBase.__name__] = base
    for name in {model.__name__ for model in MODELS.values()}:
        schema = schemas[name]
        own = {field: part for field, part in schema["properties"].items() if field not in base["properties"]}
        # Some generators take a single part of `allOf` for the whole schema.
        parts = [{"$ref": _PREFIX + EventBase.__name__}, {"type": "object", "required": [*own], "properties": own}]
        schemas[name] = {"description": schema["description"], "allOf": parts}

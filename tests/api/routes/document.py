"""The committed openapi.json, with each reference to a shared part replaced by that part."""

import json
from functools import cache
from typing import Any

from api.openapi_file import OPENAPI_JSON

METHODS = {"get", "post", "put", "delete", "patch"}
_SHARED = ("parameters", "responses", "headers", "links")


@cache
def document() -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(OPENAPI_JSON.read_text())
    return parsed


def schema_named(reference: str) -> dict[str, Any]:
    """Return the schema that a reference or a name means."""
    schema: dict[str, Any] = document()["components"]["schemas"][reference.rpartition("/")[2]]
    return schema


def whole(part: Any) -> Any:
    """Return a part of the document without references to shared parts. Those to schemas stay."""
    if isinstance(part, list):
        return [whole(item) for item in part]
    if not isinstance(part, dict):
        return part
    kind, _, name = part.get("$ref", "").removeprefix("#/components/").partition("/")
    if kind in _SHARED:
        return whole(document()["components"][kind][name])
    return {key: whole(value) for key, value in part.items()}


def example(schema: dict[str, Any]) -> Any:
    """Return an example of a schema. A page has those of its items."""
    if "$ref" in schema:
        schema = schema_named(schema["$ref"])
    if "examples" in schema:
        return schema["examples"][0]
    return {"items": [example(schema["properties"]["items"]["items"])], "next_cursor": None}

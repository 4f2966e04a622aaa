"""Complete the schemas of the OpenAPI document for generators of clients.

Generators want a name for each schema and a format for each number. Only a few of them know rare
keywords.
"""

from collections.abc import Iterator
from typing import Any, Final

_LARGEST_INT32: Final = 2**31 - 1
_PARTS: Final = ("items", "additionalProperties", "propertyNames")
_LISTS: Final = ("anyOf", "oneOf", "allOf", "prefixItems")
_PLAIN: Final = ("boolean", "integer", "number", "string")
_PREFIX: Final = "#/components/schemas/"


def tidy(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    names = {name: schema["title"] for name, schema in schemas.items() if "[" in schema.get("title", "") or name.endswith("_")}
    _rename(document, names)
    requested = {name for operation in _operations(document) for name in _body_names(operation)}
    for name, schema in schemas.items():
        # Answers may get new fields, so clients must accept unknown ones.
        if name not in requested and schema.get("additionalProperties") is False:
            del schema["additionalProperties"]
    for operation in _operations(document):
        for parameter in operation.get("parameters", ()):
            _tidy_parameter(parameter)
    for schema in schemas_of(document):
        _tidy_one(schema)


def schemas_of(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield every schema of the document, also those inside others."""
    for schema in document["components"]["schemas"].values():
        yield from _within(schema)
    for operation in _operations(document):
        for parameter in operation.get("parameters", ()):
            yield from _within(parameter["schema"])
        for body in (operation.get("requestBody", {}), *operation["responses"].values()):
            for content in body.get("content", {}).values():
                yield from _within(content.get("schema", {}))
            for header in body.get("headers", {}).values():
                yield from _within(header["schema"])


def _within(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield schema
    parts = [schema[name] for name in _PARTS if isinstance(schema.get(name), dict)]
    parts += [part for name in _LISTS for part in schema.get(name, ())]
    for part in (*parts, *schema.get("properties", {}).values()):
        yield from _within(part)


def _operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [operation for methods in document["paths"].values() for operation in methods.values()]


def _body_names(operation: dict[str, Any]) -> Iterator[str]:
    for content in operation.get("requestBody", {}).get("content", {}).values():
        yield content.get("schema", {}).get("$ref", "").removeprefix(_PREFIX)


def _rename(document: dict[str, Any], names: dict[str, str]) -> None:
    """Give schemas of generic classes the names of their classes, and change each reference."""
    schemas = document["components"]["schemas"]
    for old, new in names.items():
        schemas[new] = {"description": "One page of a list, the newest item first.", **schemas.pop(old)}
    references = {_PREFIX + old: _PREFIX + new for old, new in names.items()}
    for schema in schemas_of(document):
        if schema.get("$ref") in references:
            schema["$ref"] = references[schema["$ref"]]


def _tidy_parameter(parameter: dict[str, Any]) -> None:
    """Replace `null` as a value of a parameter by its absence."""
    if not parameter["required"]:
        del parameter["required"]
    schema = parameter["schema"]
    options = [option for option in schema.get("anyOf", ()) if option != {"type": "null"}]
    if len(options) == 1:
        del schema["anyOf"]
        schema.update(options[0])
    # The parameter has the description already.
    schema.pop("description", None)


def _tidy_one(schema: dict[str, Any]) -> None:
    # Generators would make a class of each title.
    schema.pop("title", None)
    _join_null(schema)
    kind = schema.get("type")
    if "integer" in (kind if isinstance(kind, list) else [kind]) and "format" not in schema:
        is_large = max(abs(schema.get(bound, 0)) for bound in ("minimum", "maximum")) > _LARGEST_INT32
        schema["format"] = "int64" if is_large else "int32"
    if "number" in (kind if isinstance(kind, list) else [kind]):
        schema["format"] = "double"
    for pattern, values in schema.pop("patternProperties", {}).items():
        schema["additionalProperties"] = values
        schema.setdefault("propertyNames", {"type": "string"})["pattern"] = pattern


def _join_null(schema: dict[str, Any]) -> None:
    """Write a plain value that may be null as one schema with two types. It is the shorter form."""
    options = schema.get("anyOf", ())
    if len(options) != 2 or options[1] != {"type": "null"} or options[0].get("type") not in _PLAIN or "enum" in options[0]:
        return
    del schema["anyOf"]
    schema.update({**options[0], **schema, "type": [options[0]["type"], "null"]})

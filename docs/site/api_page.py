"""The page of the API, from openapi.json."""

import json
from pathlib import Path
from typing import Any

_METHODS = ("get", "post", "put", "patch", "delete")
Json = dict[str, Any]


def render(path: Path) -> str:
    document = json.loads(path.read_text())
    schemas = document["components"]["schemas"]
    lines = [
        "# API",
        "",
        f"{document['info']['description']}",
        "",
        "This page is generated from `openapi.json`. `/docs` of a running service shows the same and sends requests.",
        "",
    ]
    for tag in document["tags"]:
        lines += [f"## {tag['name']}", "", f"{tag.get('description', '')}.", ""]
        for route, item in document["paths"].items():
            for method in _METHODS:
                operation = item.get(method)
                if operation and tag["name"] in operation.get("tags", ()):
                    lines += _operation(document, route, method, operation)
    lines += ["## Schemas", ""]
    for name, schema in schemas.items():
        lines += [f"### {name}", "", _text(schema.get("description", "")), "", *_fields(schema), ""]
    return "\n".join(lines)


def _operation(document: Json, route: str, method: str, operation: Json) -> list[str]:
    lines = [f"### {operation['summary']}", "", f"`{method.upper()} {route}`", ""]
    if operation.get("description"):
        lines += [operation["description"], ""]
    parameters = [_resolved(document, item) for item in operation.get("parameters", ())]
    if parameters:
        lines += ["| parameter | in | meaning |", "| --- | --- | --- |"]
        lines += [f"| `{item['name']}` | {item['in']} | {_text(item.get('description', ''))} |" for item in parameters]
        lines += [""]
    body = _resolved(document, operation.get("requestBody", {})).get("content", {})
    names = [_type(content.get("schema", {})) for content in body.values()]
    if names:
        lines += [f"Body: {' or '.join(names)}", ""]
    lines += ["| answer | body | meaning |", "| --- | --- | --- |"]
    for status, answer in operation["responses"].items():
        shown = _resolved(document, answer)
        kinds = " or ".join(_type(content.get("schema", {})) for content in shown.get("content", {}).values())
        lines += [f"| {status} | {kinds} | {_text(shown.get('description', ''))} |"]
    return [*lines, ""]


def _resolved(document: Json, item: Json) -> Json:
    if "$ref" not in item:
        return item
    found: Any = document
    for part in item["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    return dict(found)


def _fields(schema: Json) -> list[str]:
    if "enum" in schema:
        return [", ".join(f"`{value}`" for value in schema["enum"])]
    properties = schema.get("properties")
    if not properties:
        return []
    required = schema.get("required", ())
    rows = ["| field | type | meaning |", "| --- | --- | --- |"]
    for name, field in properties.items():
        mark = "" if name in required else " (optional)"
        rows.append(f"| `{name}`{mark} | {_type(field)} | {_text(field.get('description', ''))} |")
    return rows


def _type(schema: Json) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    for word in ("anyOf", "oneOf", "allOf"):
        if word in schema:
            return " or ".join(dict.fromkeys(_type(part) for part in schema[word]))
    kind = schema.get("type", "any")
    if isinstance(kind, list):
        return " or ".join(kind)
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return " ".join(part for part in (kind, schema.get("format", "")) if part)


def _text(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")

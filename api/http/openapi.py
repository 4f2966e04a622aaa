"""The OpenAPI document: what generators of SDKs read."""

from http import HTTPStatus
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from api.http.openapi_links import add_links
from api.schemas.examples import EXAMPLES, PROBLEMS
from api.schemas.problems import Problem

VERSION = version("flow-nexus")
DESCRIPTION = (
    "A control plane that trains neural networks across isolated sandboxes with federated learning. "
    "Slow work answers 202 with `Location`; `Prefer: wait=N` holds the answer. Errors are problem+json. "
    "Every number is measured, or null."
)
TAGS = [
    {"name": "clusters", "description": "A cluster: nodes, how they are connected, what they cost"},
    {"name": "nodes", "description": "Workers, the parameter server (aggregator) and validators, each in its own sandbox"},
    {"name": "trainings", "description": "Federated trainings and their rounds"},
    {"name": "searches", "description": "Grid and random search over the options of a training"},
    {"name": "predictions", "description": "Distributed prediction with a trained model"},
    {"name": "models", "description": "Exported models"},
    {"name": "sandboxes", "description": "Files, logs and code in a node's sandbox"},
    {"name": "events", "description": "Server-sent events"},
    {"name": "keys", "description": "API keys: of the project, and of the owners of single nodes' data"},
    {"name": "projects", "description": "Quotas and their use"},
    {"name": "audit", "description": "Who asked for what, and what came of it"},
    {"name": "operations", "description": "Health, readiness, metrics"},
]
_REQUEST_ID = {"description": "names this request in the server's log", "schema": {"type": "string"}}
_HEADERS = {
    "401": {"WWW-Authenticate": {"description": "`Bearer`", "schema": {"type": "string"}}},
    "429": {"Retry-After": {"description": "seconds until the next request is let through", "schema": {"type": "integer"}}},
    "503": {"Retry-After": {"description": "seconds after which to try again", "schema": {"type": "integer"}}},
}
_RATE = {
    "RateLimit-Policy": {
        "description": '`"default";q=…;w=…`: requests per key, and the window in seconds (IETF draft ratelimit-headers)',
        "schema": {"type": "string"},
    },
    "RateLimit": {
        "description": '`"default";r=…;t=…`: requests left now, and seconds until the next; absent while nobody counts',
        "schema": {"type": "string"},
    },
}


def install(app: FastAPI) -> None:
    """Serve the document with the Problem schema that every error refers to."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = get_openapi(
                title=app.title,
                version=app.version,
                summary=app.summary,
                description=app.description,
                routes=app.routes,
                tags=app.openapi_tags,
                license_info=app.license_info,
                separate_input_output_schemas=False,
            )
            schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas = made["components"]["schemas"]
            schemas.update(schema.pop("$defs", {}))
            schemas["Problem"] = schema
            schemas.pop("HTTPValidationError", None)
            schemas.pop("ValidationError", None)
            asked = set()
            for path, methods in made["paths"].items():
                for operation in methods.values():
                    _illustrate(path, operation, schemas)
                    asked |= {_name(content) for content in operation.get("requestBody", {}).get("content", {}).values()}
            # Fields may be added to what is answered, so that it is no error for a client to meet an unknown one.
            for name in schemas.keys() - asked:
                if schemas[name].get("additionalProperties") is False:
                    del schemas[name]["additionalProperties"]
            add_links(made["paths"])
            app.openapi_schema = made
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _illustrate(path: str, operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Give an operation's bodies their examples, and its problems the headers that come with them."""
    for content in operation.get("requestBody", {}).get("content", {}).values():
        name = _name(content)
        if name in EXAMPLES:
            content["example"] = EXAMPLES[name]
        elif name:
            content["example"] = schemas[name]["examples"][0]
    for status, answer in operation["responses"].items():
        answer.setdefault("headers", {})["X-Request-Id"] = _REQUEST_ID
        if "security" in operation and status != "401":
            answer["headers"].update(_RATE)
        if status in _HEADERS:
            answer["headers"].update(_HEADERS[status])
        for content in answer.get("content", {}).values():
            name = _name(content)
            if name == "Problem":
                content["example"] = _problem(path, int(status))
            elif name.startswith("Page_"):
                content["example"] = {"items": [EXAMPLES[name.removeprefix("Page_").rstrip("_")]], "next_cursor": None}
            elif name:
                content["example"] = EXAMPLES[name]


def _name(content: dict[str, Any]) -> str:
    return str(content.get("schema", {}).get("$ref", "")).rpartition("/")[2]


def _problem(path: str, status: int) -> dict[str, Any]:
    code, detail = PROBLEMS[status]
    example = {
        "type": f"/problems/{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "instance": f"{path.replace('{', '').replace('}', '')}#req_1f0c2a9d1e7b4f0c",
        "code": code,
    }
    if status == HTTPStatus.UNPROCESSABLE_ENTITY:
        pointer, _, message = detail.partition(": ")
        example["errors"] = [{"pointer": pointer, "message": message}]
    return example

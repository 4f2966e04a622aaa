"""Build the OpenAPI document."""

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
    "Slow operations answer 202 with `Location`. `Prefer: wait=N` holds the answer. Errors are problem+json. "
    "Every number is measured, or null. "
    "Unknown fields, unknown query parameters and blank texts are refused with 422."
)
TAGS = [
    {"name": "clusters", "description": "Clusters: nodes, their connections and their cost"},
    {"name": "nodes", "description": "Workers, the aggregator (parameter server) and validators, each in its own sandbox"},
    {"name": "trainings", "description": "Federated trainings and their rounds"},
    {"name": "searches", "description": "Grid and random search for the options of a training"},
    {"name": "predictions", "description": "Distributed prediction with a trained model"},
    {"name": "models", "description": "Exported models"},
    {"name": "sandboxes", "description": "Files, logs and code in a node's sandbox"},
    {"name": "events", "description": "Server-sent events"},
    {"name": "executions", "description": "Code in the background of a sandbox: start, follow, cancel"},
    {"name": "keys", "description": "API keys of the project, and of the owners of a node's data"},
    {"name": "projects", "description": "Quotas of a project and their use"},
    {"name": "audit", "description": "The audit log: who sent which request, and its result"},
    {"name": "operations", "description": "Health, readiness, metrics"},
]
_REQUEST_ID = {"description": "the id of this request in the server's log", "schema": {"type": "string"}}
_HEADERS = {
    "401": {"WWW-Authenticate": {"description": "`Bearer`", "schema": {"type": "string"}}},
    "429": {"Retry-After": {"description": "seconds until the next request is allowed", "schema": {"type": "integer"}}},
    "503": {"Retry-After": {"description": "seconds to wait before a retry", "schema": {"type": "integer"}}},
}
_RATE = {
    "RateLimit-Policy": {
        "description": '`"default";q=…;w=…`: requests per key, and the window in seconds (IETF draft ratelimit-headers)',
        "schema": {"type": "string"},
    },
    "RateLimit": {
        "description": '`"default";r=…;t=…`: allowed requests now, and seconds until the next; absent while there is no count',
        "schema": {"type": "string"},
    },
}


def install(app: FastAPI) -> None:
    """Serve the document, with the Problem schema of all errors."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            built = get_openapi(
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
            schemas = built["components"]["schemas"]
            schemas.update(schema.pop("$defs", {}))
            schemas["Problem"] = schema
            schemas.pop("HTTPValidationError", None)
            schemas.pop("ValidationError", None)
            request_schemas = set()
            for path, methods in built["paths"].items():
                for operation in methods.values():
                    _illustrate(path, operation, schemas)
                    request_schemas |= {
                        _name(content) for content in operation.get("requestBody", {}).get("content", {}).values()
                    }
            # Answers may get new fields, so clients must accept unknown ones.
            for name in schemas.keys() - request_schemas:
                if schemas[name].get("additionalProperties") is False:
                    del schemas[name]["additionalProperties"]
            add_links(built["paths"])
            app.openapi_schema = built
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _illustrate(path: str, operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Add examples to the bodies of an operation, and headers to its answers."""
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
            if name := _name(content):
                content["example"] = _problem(path, int(status)) if name == "Problem" else _answer_example(name)


def _answer_example(name: str) -> dict[str, Any]:
    if name.startswith("Page_"):
        return {"items": [EXAMPLES[name.removeprefix("Page_").rstrip("_")]], "next_cursor": None}
    return EXAMPLES[name]


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

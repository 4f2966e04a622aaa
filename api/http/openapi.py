"""Build the OpenAPI document."""

from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from api.http.openapi_components import share
from api.http.openapi_events import inherit
from api.http.openapi_links import add_links
from api.http.openapi_schemas import tidy
from api.schemas.examples import EXAMPLES
from api.schemas.problems import Problem

VERSION = version("flow-nexus")
DESCRIPTION = (
    "A control plane that trains neural networks across isolated sandboxes with federated learning. "
    "Slow operations answer 202 with `Location`. `Prefer: wait=N` holds the answer. Errors are problem+json. "
    "Every number is measured, or null. "
    "Unknown fields, unknown query parameters and blank texts are refused with 422. "
    "Every answer has `X-Request-Id`. Every answer to a key has `RateLimit-Policy` and `RateLimit`."
)
CONTACT = {"name": "The operator of this service"}
WEBHOOKS = {
    "event": {
        "post": {
            "operationId": "receive_event",
            "summary": "An event, signed as Standard Webhooks",
            "security": [],
            "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/ClusterEvent"}}}},
            "responses": {"2XX": {"description": "The event was taken; any other answer repeats it later"}},
        }
    }
}
SERVERS = [{"url": "/", "description": "The service that this document comes from."}]
TAGS = [
    {"name": "clusters", "description": "Clusters: nodes, their connections and their cost"},
    {"name": "nodes", "description": "Workers, the aggregator (parameter server) and validators, each in its own sandbox"},
    {"name": "trainings", "description": "Federated trainings and their rounds"},
    {"name": "searches", "description": "Grid and random search for the options of a training"},
    {"name": "predictions", "description": "Distributed prediction with a trained model"},
    {"name": "models", "description": "Exported models"},
    {"name": "sandboxes", "description": "Files, logs and code in a node's sandbox"},
    {"name": "events", "description": "What happens in clusters: as server-sent events, or in pages"},
    {"name": "executions", "description": "Code in the background of a sandbox: start, follow, cancel"},
    {"name": "keys", "description": "API keys of the project, and of the owners of a node's data"},
    {"name": "webhooks", "description": "Events sent to an address of yours"},
    {"name": "projects", "description": "Quotas of a project and their use"},
    {"name": "audit", "description": "The audit log: who sent which request, and its result"},
    {"name": "operations", "description": "Health, readiness, metrics, and what error codes mean"},
]


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
                servers=SERVERS,
                contact=CONTACT,
                license_info=app.license_info,
                separate_input_output_schemas=False,
            )
            _complete(built)
            app.openapi_schema = built
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _complete(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(problem.pop("$defs", {}))
    schemas["Problem"] = problem
    inherit(schemas)
    schemas.pop("HTTPValidationError", None)
    schemas.pop("ValidationError", None)
    for operation in operations(document):
        _name_scope(operation)
    document["webhooks"] = WEBHOOKS
    tidy(document)
    for name, example in EXAMPLES.items():
        schemas[name].setdefault("examples", [example])
    for schema in schemas.values():
        _say_once(schema)
    add_links(document["paths"])
    share(document)


def operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [operation for methods in document["paths"].values() for operation in methods.values()]


def _say_once(schema: dict[str, Any]) -> None:
    """Remove the examples of fields that the example of the whole schema has."""
    for example in schema.get("examples", ()):
        if isinstance(example, dict):
            for name in schema.get("properties", {}).keys() & example.keys():
                schema["properties"][name].pop("examples", None)


def _name_scope(operation: dict[str, Any]) -> None:
    """Say which scope an operation needs. One without a key says so too."""
    requirements = operation.setdefault("security", [])
    scopes = [scope for requirement in requirements for names in requirement.values() for scope in names]
    if scopes:
        operation["description"] += f"\n\nScope: `{scopes[0]}`"

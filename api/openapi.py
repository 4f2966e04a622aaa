"""The OpenAPI document: what generators of SDKs read. `python -m api.openapi` writes it, `--check` compares."""

import json
import sys
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from api.paths import OPENAPI_JSON
from api.schemas.problems import Problem

VERSION = "0.1.0"
DESCRIPTION = (
    "A control plane that trains neural networks across isolated sandboxes with federated learning. "
    "Slow work answers 202 with `Location`; `Prefer: wait=N` holds the answer. Errors are problem+json. "
    "Every number is measured, or null."
)
TAGS = [
    {"name": "clusters", "description": "A cluster: nodes, how they are connected, what they cost"},
    {"name": "nodes", "description": "Workers, the parameter server (aggregator) and validators, each in its own sandbox"},
    {"name": "trainings", "description": "Federated trainings and their rounds"},
    {"name": "predictions", "description": "Distributed prediction with a trained model"},
    {"name": "models", "description": "Exported models"},
    {"name": "sandboxes", "description": "Files, logs and code in a node's sandbox"},
    {"name": "events", "description": "Server-sent events"},
    {"name": "operations", "description": "Health, readiness, metrics"},
]


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
            app.openapi_schema = made
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def render() -> str:
    """The document of an app with default settings; needs no database."""
    from api.main import create_app
    from api.settings import Settings

    settings = Settings(
        database_url="postgresql+psycopg://", redis_url="redis://", secret_key="0" * 32, models_dir=Path(), E2B_API_KEY=""
    )
    return json.dumps(create_app(settings).openapi(), indent=1, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> int:
    made = render()
    if arguments == ["--check"]:
        if OPENAPI_JSON.is_file() and OPENAPI_JSON.read_text() == made:
            return 0
        print(f"{OPENAPI_JSON.name} is not current; run: make openapi", file=sys.stderr)
        return 1
    OPENAPI_JSON.write_text(made)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

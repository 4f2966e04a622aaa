"""The dependencies of the operations."""

import inspect
from collections.abc import Iterator
from pathlib import Path

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from api.main import create_app
from tests.api.routes.conftest import make_settings


def functions(dependant: Dependant) -> Iterator[object]:
    yield dependant.call
    for inner in dependant.dependencies:
        yield from functions(inner)


def routes(found: object) -> Iterator[APIRoute]:
    """Yield the operations, also those of included routers."""
    for route in getattr(found, "routes", ()):
        if isinstance(route, APIRoute):
            yield route
        yield from routes(getattr(route, "original_router", None) or getattr(route, "router", None))


def test_no_operation_changes_threads_for_a_dependency(tmp_path: Path) -> None:
    app = create_app(make_settings("postgresql+psycopg://", tmp_path))
    operations = list(routes(app.router))
    assert len(operations) > 40
    calls = {call for route in operations for call in functions(route.dependant)}
    calls |= {dependency.dependency for dependency in app.router.dependencies}
    plain = {
        call for call in calls if not inspect.iscoroutinefunction(call) and not inspect.iscoroutinefunction(type(call).__call__)
    }
    assert plain == set()

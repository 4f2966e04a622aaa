"""Refuse query parameters that an operation does not have."""

from collections import Counter
from collections.abc import Iterator

from fastapi import Request
from fastapi.dependencies.models import Dependant

from api.domain.errors import FieldError, InvalidError

_LONGEST_NAME = 100
_MOST_ERRORS = 20


def check_query(request: Request) -> None:
    """Check the names of the query parameters.

    Raises:
        InvalidError: a parameter is unknown, comes twice or is blank.
    """
    if not request.query_params:
        return
    known = sorted(set(_parameters(request.scope["route"].dependant)))
    counts = Counter(name for name, _ in request.query_params.multi_items())
    errors = [
        FieldError(f"/{name[:_LONGEST_NAME]}", message)
        for name, count in counts.items()
        if (message := _mistake(name, count, request.query_params[name], known)) is not None
    ]
    if errors:
        detail = f"{errors[0].pointer}: {errors[0].message}"
        raise InvalidError("invalid_request", detail, errors=tuple(errors[:_MOST_ERRORS]))


def _mistake(name: str, count: int, value: str, known: list[str]) -> str | None:
    if name not in known:
        parameters = f"the parameters are {', '.join(known)}" if known else "this operation has none"
        return f"this query parameter is not known; {parameters}"
    if count > 1:
        return "this query parameter must not be given twice"
    return None if value.strip() else "must not be blank"


def _parameters(dependant: Dependant) -> Iterator[str]:
    """Yield the names of the query parameters of an operation and of its dependencies."""
    yield from (field.alias for field in dependant.query_params)
    for dependency in dependant.dependencies:
        yield from _parameters(dependency)

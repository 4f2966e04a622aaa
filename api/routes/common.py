"""Parts that several operations share: documented answers, `Location`, pages."""

from collections.abc import Callable
from typing import Any, TypeVar

from fastapi import Path, Response
from pydantic import BaseModel

from api.http.problems import MEDIA_TYPE
from api.schemas.base import Page
from api.services.pages import ResultPage

Row = TypeVar("Row")
Shown = TypeVar("Shown")
_DESCRIPTIONS = {
    400: "The body is not valid JSON",
    401: "The API key is missing or not valid",
    403: "The key lacks a scope, or the project has used up a quota",
    404: "The resource does not exist, or it belongs to another project",
    408: "The body did not arrive in time",
    409: "The request conflicts with the current state",
    412: "There is a file at this path, and `If-None-Match: *` asks for a new one",
    413: "The body or the file is too large",
    415: "The body has a media type that is not accepted",
    416: "The file has no bytes in this range; `Content-Range` has its size",
    422: "A field or parameter is wrong",
    429: "The key has sent too many requests; see Retry-After and RateLimit",
    502: "The sandbox provider failed",
    503: "Temporarily unavailable; see Retry-After",
}
LOCATION = {"Location": {"description": "where the resource is", "schema": {"type": "string"}}}
ETAG = {"description": "a hash of the body", "schema": {"type": "string"}}
_ETAG = {"ETag": ETAG}
MOST_ITEMS = "The largest number of items on a page."
OCTET_STREAM = "application/octet-stream"
BINARY = {OCTET_STREAM: {"schema": {"type": "string", "format": "binary"}}}
UNCHANGED: dict[int | str, dict[str, Any]] = {
    200: {"headers": _ETAG},
    304: {"description": "The client has this answer: the ETag is one of `If-None-Match`", "headers": _ETAG},
}
_WAITED = {
    **LOCATION,
    "Preference-Applied": {"description": "`wait=N` when `Prefer` was honoured", "schema": {"type": "string"}},
}


def errors(*statuses: int, body: bool = False, open_to_all: bool = False) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI description of the problems that an operation can answer with.

    An operation that is open to all needs no key.
    """
    of_keys = () if open_to_all else (401, 403, 429, 503)
    documented = sorted({422, *of_keys, *statuses, *((400, 408, 413, 415) if body else ())})
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {"description": _DESCRIPTIONS[status], "content": {MEDIA_TYPE: {"schema": schema}}} for status in documented
    }


def path_id(description: str, example: str) -> Any:
    """Return the documentation and the bounds of an id in a path."""
    return Path(max_length=100, pattern=r"^[^\x00]*$", description=description, examples=[example])


def answers(status: int, description: str, headers: dict[str, Any] | None = None) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI description of one successful answer."""
    return {status: {"description": description, **({"headers": headers} if headers else {})}}


def held(model: type[BaseModel], noun: str) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI description of an answer that `Prefer: wait` can hold."""
    return {
        200: {"description": f"{noun}. You waited, and the work is done", "model": model, "headers": _WAITED},
        202: {"description": f"{noun}. The work goes on", "headers": _WAITED},
    }


def set_location(response: Response, path: str) -> None:
    response.headers["Location"] = path


def to_page(results: ResultPage[Row], show: Callable[[Row], Shown]) -> Page[Shown]:
    """Return the page of a list as clients see it, with each result shown by `show`."""
    next_cursor = results.next.encode() if results.next else None
    return Page(items=[show(row) for row in results.items], next_cursor=next_cursor)

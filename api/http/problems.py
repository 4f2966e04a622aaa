"""Answer every error as application/problem+json (RFC 9457).

An answer has no stack trace, no SQL and nothing of the request's body.
"""

import logging
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic_core import ErrorDetails
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as DatabaseTimeoutError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from api.domain import errors, sandboxes
from api.domain.errors import DomainError, FieldError

log = logging.getLogger(__name__)
MEDIA_TYPE = "application/problem+json"
_LONGEST_SEGMENT = 100
_LONGEST_PATH = 300
_RETRY_AFTER_S = 2
_SANDBOX_ERRORS: dict[type[sandboxes.SandboxError], tuple[type[DomainError], str]] = {
    sandboxes.SandboxNotFoundError: (errors.ConflictError, "sandbox_gone"),
    sandboxes.SandboxUnsupportedError: (errors.InvalidError, "unsupported_by_sandbox"),
    sandboxes.SandboxFileExistsError: (errors.PreconditionError, "file_exists"),
    sandboxes.SandboxPathError: (errors.InvalidError, "invalid_path"),
    sandboxes.SandboxFullError: (errors.TooLargeError, "sandbox_full"),
    sandboxes.SandboxUnavailableError: (errors.UnavailableError, "provider_unavailable"),
}
_HTTP_ERRORS = {
    400: ("malformed_json", "The body cannot be read."),
    404: ("no_such_path", "There is no resource at this path."),
    405: ("method_not_allowed", "This path does not take this method."),
    408: ("body_timeout", "The body did not arrive in time."),
    413: ("body_too_large", "The JSON body is too large."),
}


class _FileMissingError(DomainError):
    status = 404
    title = "Not found"


@dataclass(frozen=True, slots=True)
class ProblemDetails:
    """The parts of a problem document. `members` are further fields of it."""

    status: int
    code: str
    detail: str
    title: str | None = None
    fields: Sequence[FieldError] = ()
    members: Mapping[str, Any] = field(default_factory=dict)


def response(request: Request, problem: ProblemDetails, headers: dict[str, str] | None = None) -> JSONResponse:
    """Return the answer with the problem document."""
    body: dict[str, Any] = {
        "type": f"/problems/{problem.code}",
        "title": problem.title or HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.detail,
        "instance": f"{quote(request.scope['path'][:_LONGEST_PATH])}#{request.scope['request_id']}",
        "code": problem.code,
        **problem.members,
    }
    if problem.fields:
        body["errors"] = [{"pointer": wrong.pointer, "message": wrong.message} for wrong in problem.fields]
    return JSONResponse(body, problem.status, headers, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    app.add_exception_handler(DomainError, _domain)  # type: ignore[arg-type]
    app.add_exception_handler(sandboxes.SandboxError, _sandbox)  # type: ignore[arg-type]
    app.add_exception_handler(RequestValidationError, _validation)  # type: ignore[arg-type]
    app.add_exception_handler(HTTPException, _http)  # type: ignore[arg-type]
    app.add_exception_handler(OperationalError, _database)
    app.add_exception_handler(DatabaseTimeoutError, _database)
    app.add_exception_handler(DBAPIError, _database_error)  # type: ignore[arg-type]
    app.add_exception_handler(ClientDisconnect, _disconnected)


async def _domain(request: Request, error: DomainError) -> JSONResponse:
    headers = dict(error.headers)
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="flow-nexus"'
    if error.status in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS):
        headers["Retry-After"] = str(error.retry_after_s or _RETRY_AFTER_S)
    problem = ProblemDetails(error.status, error.code, error.detail, error.title, error.errors, error.members)
    return response(request, problem, headers)


async def _sandbox(request: Request, error: sandboxes.SandboxError) -> JSONResponse:
    if isinstance(error, sandboxes.SandboxFileNotFoundError):
        return await _domain(request, _FileMissingError("file_not_found", str(error)))
    error_class, code = _SANDBOX_ERRORS.get(type(error), (errors.UpstreamError, "provider_failed"))
    fields = (FieldError("/path", str(error)),) if code == "invalid_path" else ()
    return await _domain(request, error_class(code, str(error), errors=fields))


async def _validation(request: Request, error: RequestValidationError) -> JSONResponse:
    field_errors: Sequence[ErrorDetails] = error.errors()
    if any(item["type"] == "json_invalid" for item in field_errors):
        return response(request, ProblemDetails(400, "malformed_json", _syntax_error(error, field_errors)))
    fields = [FieldError(_pointer(item["loc"]), _message(item)) for item in field_errors[:100]]
    more = f" (and {len(field_errors) - 1} more)" if field_errors[1:] else ""
    detail = f"{fields[0].pointer or 'the body'}: {fields[0].message}{more}"
    return response(request, ProblemDetails(422, "invalid_request", detail, "Invalid request", fields))


def _syntax_error(error: RequestValidationError, field_errors: Sequence[ErrorDetails]) -> str:
    """Name the place of the mistake in a JSON body, from 1, without a part of the body."""
    item = next(item for item in field_errors if item["type"] == "json_invalid")
    text, position = str(error.body), int(item["loc"][-1])
    line, column = text.count("\n", 0, position) + 1, position - text.rfind("\n", 0, position)
    reason = str(item.get("ctx", {}).get("error", "it cannot be read")).rstrip(": ")
    return f"The body is not valid JSON: line {line}, column {column}: {reason}."


def _unreadable(cause: BaseException | None) -> str:
    """Say why Python could not read a JSON body."""
    if isinstance(cause, zlib.error):
        return "The body is not valid gzip, as its Content-Encoding says."
    if isinstance(cause, UnicodeDecodeError):
        line = cause.object.count(b"\n", 0, cause.start) + 1
        column = cause.start - cause.object.rfind(b"\n", 0, cause.start)
        return f"The body is not UTF-8: line {line}, byte {column} of the line."
    if isinstance(cause, RecursionError):
        return "The body is not valid JSON: its lists and objects are nested too deeply."
    return "The body is not valid JSON: it cannot be read. Does it have a number with thousands of digits?"


def _message(item: ErrorDetails) -> str:
    words = str(item["msg"]).removeprefix("Value error, ")
    return "this field is not known" if item["type"] == "extra_forbidden" else words[:500]


def _pointer(location: Sequence[int | str]) -> str:
    """Return the JSON pointer. pydantic marks a wrong key by a segment of its own."""
    parts = [str(part)[:_LONGEST_SEGMENT] for part in location[1:] if part != "[key]"]
    return "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in parts)


async def _http(request: Request, error: HTTPException) -> JSONResponse:
    status = HTTPStatus(error.status_code)
    code, detail = _HTTP_ERRORS.get(status, (status.name.lower(), status.phrase))
    if status == HTTPStatus.BAD_REQUEST:
        detail = _unreadable(error.__cause__)
    return response(request, ProblemDetails(status, code, detail), dict(error.headers or {}))


async def _database(request: Request, error: Exception) -> JSONResponse:
    log.warning("%s: the database cannot be used: %s", request.scope.get("request_id"), type(error).__name__)
    headers = {"Retry-After": str(_RETRY_AFTER_S)}
    problem = ProblemDetails(503, "database_unavailable", "The database cannot be reached; try again.")
    return response(request, problem, headers)


async def _database_error(request: Request, error: DBAPIError) -> JSONResponse:
    if error.connection_invalidated:
        return await _database(request, error)
    raise error


async def _disconnected(request: Request, _: Exception) -> JSONResponse:
    return response(request, ProblemDetails(400, "client_disconnected", "The connection ended before the request did."))

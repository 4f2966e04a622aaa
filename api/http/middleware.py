"""Rules for every request: an id, limits on the body, security headers, metrics, and an answer to
every error.
"""

import asyncio
import logging
import secrets
import time
from functools import partial

from fastapi import Request
from opentelemetry.trace import Span, SpanKind, StatusCode
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.http.body_encoding import GZIP, with_gzip_decoded
from api.http.head_requests import answer_head
from api.http.metrics.requests import RequestMetrics
from api.http.problems import ProblemDetails, response
from api.runtime import log_context, tracing
from api.runtime.log_setup import describe

log = logging.getLogger(__name__)
# The time for a whole JSON body. An upload may take longer, but each chunk has the idle timeout.
_BODY_TIMEOUT_S = 60.0
_IDLE_TIMEOUT_S = 30.0
_SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_POLICY = "default-src 'none'; frame-ancestors 'none'"
# The audit log has all changes. It also has refusals and these reads of users' data.
_REFUSED = frozenset({401, 403, 404, 429})
_AUDITED_READS = frozenset(
    {"download_file", "download_model", "get_execution", "get_logs", "list_files", "stream_execution_events"}
)


class RequestMiddleware:
    """ASGI middleware around the whole app."""

    def __init__(self, app: ASGIApp, *, max_body_bytes: int, metrics: RequestMetrics) -> None:
        self._app = app
        self._max_body = max_body_bytes
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope["request_id"] = f"req_{secrets.token_hex(8)}"
        named = log_context.ids_among(scope["path"].split("/"))
        named[log_context.REQUEST_ID] = scope["request_id"]
        caller = Headers(scope=scope).get(tracing.HEADER)
        with (
            log_context.bound(named),
            tracing.span(scope["method"], SpanKind.SERVER, caller, named) as span,
            tracing.originating(),
        ):
            await self._answer(scope, receive, send, span)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, span: Span) -> None:
        # An empty header says nothing. Clients send it for a variable without a value.
        scope["headers"] = [header for header in scope["headers"] if header[1].strip()]
        app = self._app
        if scope["method"] == "HEAD":
            # The server keeps its own scope, and so sends no body.
            scope, app = {**scope, "method": "GET"}, partial(answer_head, self._app)
        started = time.perf_counter()
        answered = False

        async def send_with_headers(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = True
                self._add_headers(scope, message)
                _record(scope, message["status"])
                seconds = time.perf_counter() - started
                operation = getattr(scope.get("route"), "operation_id", None) or "none"
                self._metrics.count(operation, scope["method"], message["status"], seconds)
                log.debug("%s: %s answered %d after %.3f s", scope["request_id"], operation, message["status"], seconds)
                _describe(span, scope, message["status"])
            # A client that reads nothing any more must not hold resources here.
            async with asyncio.timeout(_IDLE_TIMEOUT_S):
                await send(message)

        try:
            await self._call_with_limits(app, scope, receive, send_with_headers)
        except Exception as error:
            request = (scope["request_id"], scope["method"], scope["path"])
            log.error("%s: %s %.300r failed: %s", *request, describe(error))  # noqa: TRY400 - no message
            # The client must notice half an answer: the raised error closes the connection.
            if answered:
                raise
            detail = "Something went wrong here; the log has it under the request's id."
            await response(Request(scope), ProblemDetails(500, "internal", detail))(scope, receive, send_with_headers)

    async def _call_with_limits(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] not in ("POST", "PUT", "PATCH"):
            await app(scope, receive, send)
        elif scope["method"] == "PUT" and scope["path"].endswith("/files"):
            await app(scope, _with_idle_timeout(receive), send)
        elif (refusal := self._refusal(scope)) and _has_operation(scope):
            await refusal(scope, receive, send)
        else:
            limited = _with_body_limits(receive, self._max_body)
            is_gzip = Headers(scope=scope).get("content-encoding", "").lower() in GZIP
            await app(scope, with_gzip_decoded(limited, self._max_body) if is_gzip else limited, send)

    def _refusal(self, scope: Scope) -> ASGIApp | None:
        """Return a refusal when the headers alone suffice for one."""
        headers = Headers(scope=scope)
        length = headers.get("content-length", "")
        has_body = length not in ("", "0") or "transfer-encoding" in headers
        if has_body and not _is_json(headers.get("content-type", "")):
            return response(Request(scope), ProblemDetails(415, "unsupported_media_type", "Send the body as application/json."))
        if headers.get("content-encoding", "identity").lower() not in ("identity", *GZIP):
            detail = "The body has an encoding that is not known. Send it as gzip, or without Content-Encoding."
            return response(
                Request(scope), ProblemDetails(415, "unsupported_encoding", detail), {"Accept-Encoding": "gzip, identity"}
            )
        if length.isdecimal() and int(length) > self._max_body:
            return response(Request(scope), ProblemDetails(413, "body_too_large", "The JSON body is too large."))
        return None

    def _add_headers(self, scope: Scope, message: Message) -> None:
        headers = MutableHeaders(scope=message)
        headers["X-Request-Id"] = scope["request_id"]
        if scope.get("allowance") is not None:
            headers.update(scope["allowance"].headers())
        for name, value in _SECURITY_HEADERS.items():
            headers.setdefault(name, value)
        headers.setdefault("Content-Security-Policy", _POLICY)


def _describe(span: Span, scope: Scope, status: int) -> None:
    """Name the span after the operation.

    The path itself is left out, because a client may write any text there.
    """
    route = scope.get("route")
    span.set_attribute("http.request.method", scope["method"])
    span.set_attribute("http.response.status_code", status)
    if route is not None:
        span.set_attribute("http.route", route.path)
        span.update_name(getattr(route, "operation_id", None) or route.path)
    if status >= 500:
        span.set_status(StatusCode.ERROR)


def _record(scope: Scope, status: int) -> None:
    """Queue the answer for the audit log, unless a transaction has written it already."""
    record = scope.get("audit")
    if record is None:
        return
    is_audited = status in _REFUSED or scope["method"] not in ("GET", "HEAD") or record.operation in _AUDITED_READS
    is_recorded = record.recorded is not None and (status < 400 or status == record.recorded)
    if is_audited and not is_recorded:
        scope["app"].state.flow_nexus.audit_writer.record(record, status)


def _with_body_limits(receive: Receive, most: int) -> Receive:
    """Limit a JSON body to `most` bytes and to the body timeout."""
    received = 0
    complete = False
    deadline = asyncio.get_running_loop().time() + _BODY_TIMEOUT_S

    async def receive_before_deadline() -> Message:
        nonlocal received, complete
        # After the body, the only message is the client's disconnect. It has no deadline.
        message = await receive() if complete else await _before(deadline, receive)
        received += len(message.get("body", b""))
        complete = not message.get("more_body", False)
        if received > most:
            raise HTTPException(413)
        return message

    return receive_before_deadline


def _with_idle_timeout(receive: Receive) -> Receive:
    """Limit the pause between two chunks of an upload to the idle timeout.

    Its size is not limited here.
    """
    complete = False

    async def receive_without_pause() -> Message:
        nonlocal complete
        deadline = asyncio.get_running_loop().time() + _IDLE_TIMEOUT_S
        message = await receive() if complete else await _before(deadline, receive)
        complete = not message.get("more_body", False)
        return message

    return receive_without_pause


async def _before(deadline: float, receive: Receive) -> Message:
    try:
        async with asyncio.timeout_at(deadline):
            return await receive()
    except TimeoutError:
        raise HTTPException(408) from None


def _has_operation(scope: Scope) -> bool:
    """Return whether an operation has this path and method. If not, the app answers 404 or 405."""
    return any(route.matches(scope)[0] is Match.FULL for route in scope["app"].routes)


def _is_json(content_type: str) -> bool:
    media_type = content_type.partition(";")[0].strip().lower()
    return media_type == "application/json" or (media_type.startswith("application/") and media_type.endswith("+json"))

"""The part of E2B's REST API that this host implements. Other requests are answered with 501."""

import base64
import binascii
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import datetime
from urllib.parse import parse_qsl, unquote

import httpcore
from e2b.api.client.models import SandboxLogEntry
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from workers.sandboxes.host.envd_client import fetch_usage
from workers.sandboxes.host.log_reader import read_entries
from workers.sandboxes.host.request_bodies import (
    BadRequestError,
    LimitBody,
    RefreshBody,
    TemplateNames,
    TimeoutBody,
    parse_body,
    parse_create_request,
)
from workers.sandboxes.host.response_bodies import created_body, detailed_body, listed_body, metric_body
from workers.sandboxes.host.running_sandbox import PortClosedError, SandboxGoneError
from workers.sandboxes.host.sandbox_manager import KeyConflictError, NoSandboxError, SandboxManager, matches
from workers.sandboxes.host.sandbox_record import SandboxRecord

_MAX_PAGE = 100
_MAX_LOG_LINES = 1000
Handler = Callable[[Request], Awaitable[Response]]


class RestApi:
    def __init__(self, manager: SandboxManager, template_prefix: str) -> None:
        self._manager = manager
        self._templates = TemplateNames(template_prefix)

    def routes(self) -> list[BaseRoute]:
        sandbox = "/sandboxes/{sandbox_id}"
        return [
            self._route("/v2/sandboxes", self._list, "GET"),
            self._route("/sandboxes", self._list, "GET"),
            self._route("/v2/sandboxes", self._create, "POST"),
            self._route("/sandboxes", self._create, "POST"),
            self._route(sandbox, self._get, "GET"),
            self._route(sandbox, self._kill, "DELETE"),
            self._route(f"{sandbox}/timeout", self._set_timeout, "POST"),
            self._route(f"{sandbox}/refreshes", self._refresh, "POST"),
            self._route(f"{sandbox}/connect", self._connect, "POST"),
            self._route(f"/v2{sandbox}/connect", self._connect, "POST"),
            self._route(f"{sandbox}/logs", self._logs_v1, "GET"),
            self._route(f"/v2{sandbox}/logs", self._logs_v2, "GET"),
            self._route(f"{sandbox}/metrics", self._metrics, "GET"),
            self._route(f"{sandbox}/limits", self._limits, "GET"),
            self._route(f"{sandbox}/limits", self._add_limit_hit, "POST"),
        ]

    @staticmethod
    def _route(path: str, handler: Handler, method: str) -> Route:
        async def handle_errors(request: Request) -> Response:
            try:
                return await handler(request)
            except BadRequestError as error:
                return problem(error.status, str(error))
            except NoSandboxError:
                return problem(404, f"Sandbox {request.path_params['sandbox_id']} not found")
            except (SandboxGoneError, PortClosedError, httpcore.NetworkError, httpcore.TimeoutException):
                return problem(503, "the sandbox does not answer")

        return Route(path, handle_errors, methods=[method])

    def _record(self, request: Request) -> SandboxRecord:
        return self._manager.get(request.path_params["sandbox_id"])

    async def _create(self, request: Request) -> Response:
        create_request = parse_create_request(await _json(request), request.headers.get("idempotency-key"), self._templates)
        try:
            record = await self._manager.create(create_request)
        except KeyConflictError:
            return problem(409, "the idempotency key was used for another request", "idempotency_request_mismatch")
        except OSError:
            return problem(500, "the sandbox could not be started", "sandbox_create_failed")
        return JSONResponse(created_body(record), 201)

    async def _list(self, request: Request) -> Response:
        query = request.query_params
        # The SDK percent-encodes names and values a second time.
        metadata = {unquote(name): unquote(value) for name, value in parse_qsl(query.get("metadata", ""))}
        records = [record for record in self._manager.list() if matches(record, metadata)]
        if "state" in query and "running" not in query["state"].split(","):
            records = []
        if template := query.get("template"):
            records = [record for record in records if record.template == template]
        if after := query.get("startedAfter"):
            moment = _parse_time(after)
            records = [record for record in records if record.started_at > moment]
        records.sort(key=_sort_key, reverse=query.get("order") != "asc")
        page, next_token = _page(records, _parse_number(query.get("limit"), _MAX_PAGE, _MAX_PAGE), query.get("nextToken"))
        headers = {"x-next-token": next_token} if next_token else {}
        return JSONResponse([listed_body(record, self._manager.limits) for record in page], headers=headers)

    async def _get(self, request: Request) -> Response:
        return JSONResponse(detailed_body(self._record(request), self._manager.limits))

    async def _kill(self, request: Request) -> Response:
        await self._manager.kill(self._record(request).sandbox_id)
        return Response(status_code=204)

    async def _set_timeout(self, request: Request) -> Response:
        record = self._record(request)
        body = parse_body(TimeoutBody, await _json(request))
        self._manager.extend(record.sandbox_id, body.timeout)
        return Response(status_code=204)

    async def _refresh(self, request: Request) -> Response:
        body = parse_body(RefreshBody, await _json(request))
        self._manager.extend(self._record(request).sandbox_id, body.duration, only_longer=True)
        return Response(status_code=204)

    async def _connect(self, request: Request) -> Response:
        body = parse_body(TimeoutBody, await _json(request))
        record = self._manager.extend(self._record(request).sandbox_id, body.timeout, only_longer=True)
        return JSONResponse(created_body(record))

    async def _logs_v1(self, request: Request) -> Response:
        start = _parse_number(request.query_params.get("start"), 0, None)
        limit = _parse_number(request.query_params.get("limit"), _MAX_LOG_LINES, _MAX_LOG_LINES)
        entries = [entry for entry in await self._entries(request) if _milliseconds(entry.timestamp) >= start][:limit]
        lines = [{"timestamp": entry.timestamp.isoformat(), "line": entry.message} for entry in entries]
        return JSONResponse({"logs": lines, "logEntries": [entry.to_dict() for entry in entries]})

    async def _logs_v2(self, request: Request) -> Response:
        query = request.query_params
        entries = await self._entries(request)
        if level := query.get("level"):
            entries = [entry for entry in entries if entry.level.value == level]
        if search := query.get("search"):
            entries = [entry for entry in entries if search in entry.message]
        cursor = _parse_number(query["cursor"], 0, None) if "cursor" in query else None
        if query.get("direction") == "backward":
            entries = [entry for entry in entries if cursor is None or _milliseconds(entry.timestamp) <= cursor][::-1]
        elif cursor is not None:
            entries = [entry for entry in entries if _milliseconds(entry.timestamp) >= cursor]
        limit = _parse_number(query.get("limit"), _MAX_LOG_LINES, _MAX_LOG_LINES)
        return JSONResponse({"logs": [entry.to_dict() for entry in entries[:limit]]})

    async def _entries(self, request: Request) -> list[SandboxLogEntry]:
        return await run_in_threadpool(read_entries, self._manager.folder(self._record(request).sandbox_id))

    async def _metrics(self, request: Request) -> Response:
        usage = await fetch_usage(await self._manager.running_sandbox(self._record(request).sandbox_id))
        if usage.memory_used_bytes is None:
            return JSONResponse([])
        return JSONResponse([metric_body(usage, usage.memory_used_bytes)])

    async def _limits(self, request: Request) -> Response:
        """Answer with the limits that the sandbox reached. E2B has no such route."""
        hits = self._manager.limit_hits(self._record(request).sandbox_id)
        return JSONResponse({"hits": [asdict(hit) for hit in hits]})

    async def _add_limit_hit(self, request: Request) -> Response:
        """Store that the client held a command to a limit. E2B has no such route."""
        body = parse_body(LimitBody, await _json(request))
        self._manager.add_limit_hit(self._record(request).sandbox_id, body.limit)
        return Response(status_code=204)


def problem(status: int, message: str, error_code: str | None = None) -> Response:
    body: dict[str, object] = {"code": status, "message": message}
    return JSONResponse(body | ({"error_code": error_code} if error_code else {}), status)


async def _json(request: Request) -> object:
    try:
        return await request.json()
    except ValueError as error:
        raise BadRequestError("the body is not JSON") from error


def _sort_key(record: SandboxRecord) -> tuple[datetime, str]:
    return record.started_at, record.sandbox_id


def _page(records: list[SandboxRecord], limit: int, token: str | None) -> tuple[list[SandboxRecord], str | None]:
    """Return a page of the sorted `records`, and the token of the next page.

    The token is the id of the last sandbox on this page, in base64.
    """
    start = 0
    if token:
        try:
            last = base64.urlsafe_b64decode(token).decode()
            start = [record.sandbox_id for record in records].index(last) + 1
        except (ValueError, binascii.Error) as error:
            raise BadRequestError("the page token is not valid any more") from error
    page = records[start : start + limit]
    more = start + limit < len(records)
    return page, base64.urlsafe_b64encode(page[-1].sandbox_id.encode()).decode() if more else None


def _parse_number(text: str | None, default: int, most: int | None) -> int:
    if text is None:
        return default
    if not text.isdigit() or (most is not None and not 0 < int(text) <= most):
        raise BadRequestError(f"'{text[:20]}' is not a number in range")
    return int(text)


def _parse_time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError as error:
        raise BadRequestError("startedAfter is not a time") from error


def _milliseconds(time: datetime) -> int:
    return int(time.timestamp() * 1000)

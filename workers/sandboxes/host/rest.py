"""E2B's REST API, as far as this host has it. Everything else of that API is a clear 501."""

import base64
import binascii
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl, unquote

import httpcore
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from workers.sandboxes.host.envd.wire import LIMIT_NAMES
from workers.sandboxes.host.envd_client import fetch_usage
from workers.sandboxes.host.log_reader import read_entries
from workers.sandboxes.host.request_bodies import BadRequestError, TemplateNames, parse_create_request, read_timeout
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
        one = "/sandboxes/{sandbox_id}"
        return [
            self._route("/v2/sandboxes", self._list, "GET"),
            self._route("/sandboxes", self._list, "GET"),
            self._route("/v2/sandboxes", self._create, "POST"),
            self._route("/sandboxes", self._create, "POST"),
            self._route(one, self._get, "GET"),
            self._route(one, self._kill, "DELETE"),
            self._route(f"{one}/timeout", self._set_timeout, "POST"),
            self._route(f"{one}/refreshes", self._refresh, "POST"),
            self._route(f"{one}/connect", self._connect, "POST"),
            self._route(f"/v2{one}/connect", self._connect, "POST"),
            self._route(f"{one}/logs", self._logs_v1, "GET"),
            self._route(f"/v2{one}/logs", self._logs_v2, "GET"),
            self._route(f"{one}/metrics", self._metrics, "GET"),
            self._route(f"{one}/limits", self._limits, "GET"),
            self._route(f"{one}/limits", self._note_limit, "POST"),
        ]

    @staticmethod
    def _route(path: str, handler: Handler, method: str) -> Route:
        async def guarded(request: Request) -> Response:
            try:
                return await handler(request)
            except BadRequestError as error:
                return problem(error.status, str(error))
            except NoSandboxError:
                return problem(404, f"Sandbox {request.path_params['sandbox_id']} not found")
            except (SandboxGoneError, PortClosedError, httpcore.NetworkError, httpcore.TimeoutException):
                return problem(503, "the sandbox does not answer")

        return Route(path, guarded, methods=[method])

    def _record(self, request: Request) -> SandboxRecord:
        return self._manager.get(request.path_params["sandbox_id"])

    async def _create(self, request: Request) -> Response:
        wanted = parse_create_request(await _json(request), request.headers.get("idempotency-key"), self._templates)
        try:
            record = await self._manager.create(wanted)
        except KeyConflictError:
            return problem(409, "the idempotency key was used for another request", "idempotency_request_mismatch")
        except OSError:
            return problem(500, "the sandbox could not be started", "sandbox_create_failed")
        return JSONResponse(created_body(record), 201)

    async def _list(self, request: Request) -> Response:
        query = request.query_params
        # The SDK encodes names and values once more than the query string does.
        wanted = {unquote(name): unquote(value) for name, value in parse_qsl(query.get("metadata", ""))}
        records = [record for record in self._manager.list() if matches(record, wanted)]
        if "state" in query and "running" not in query["state"].split(","):
            records = []
        if template := query.get("template"):
            records = [record for record in records if record.template == template]
        if after := query.get("startedAfter"):
            moment = _moment(after)
            records = [record for record in records if record.started_at > moment]
        records.sort(key=_order, reverse=query.get("order") != "asc")
        page, following = _page(records, _number(query.get("limit"), _MAX_PAGE, _MAX_PAGE), query.get("nextToken"))
        headers = {"x-next-token": following} if following else {}
        return JSONResponse([listed_body(record, self._manager.limits) for record in page], headers=headers)

    async def _get(self, request: Request) -> Response:
        return JSONResponse(detailed_body(self._record(request), self._manager.limits))

    async def _kill(self, request: Request) -> Response:
        await self._manager.kill(self._record(request).sandbox_id)
        return Response(status_code=204)

    async def _set_timeout(self, request: Request) -> Response:
        self._manager.extend(self._record(request).sandbox_id, read_timeout(await _json(request), "timeout"))
        return Response(status_code=204)

    async def _refresh(self, request: Request) -> Response:
        seconds = read_timeout(await _json(request), "duration")
        self._manager.extend(self._record(request).sandbox_id, seconds, only_longer=True)
        return Response(status_code=204)

    async def _connect(self, request: Request) -> Response:
        seconds = read_timeout(await _json(request), "timeout")
        return JSONResponse(created_body(self._manager.extend(self._record(request).sandbox_id, seconds, only_longer=True)))

    async def _logs_v1(self, request: Request) -> Response:
        start = _number(request.query_params.get("start"), 0, None)
        limit = _number(request.query_params.get("limit"), _MAX_LOG_LINES, _MAX_LOG_LINES)
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
        cursor = _number(query["cursor"], 0, None) if "cursor" in query else None
        if query.get("direction") == "backward":
            entries = [entry for entry in entries if cursor is None or _milliseconds(entry.timestamp) <= cursor][::-1]
        elif cursor is not None:
            entries = [entry for entry in entries if _milliseconds(entry.timestamp) >= cursor]
        limit = _number(query.get("limit"), _MAX_LOG_LINES, _MAX_LOG_LINES)
        return JSONResponse({"logs": [entry.to_dict() for entry in entries[:limit]]})

    async def _entries(self, request: Request) -> list[Any]:
        return await run_in_threadpool(read_entries, self._manager.folder(self._record(request).sandbox_id))

    async def _metrics(self, request: Request) -> Response:
        measured = await fetch_usage(await self._manager.running_sandbox(self._record(request).sandbox_id))
        if measured["memory_used_bytes"] is None:
            return JSONResponse([])
        return JSONResponse([metric_body(measured)])

    async def _limits(self, request: Request) -> Response:
        """Not E2B's: the limits that the sandbox ran into."""
        return JSONResponse({"hits": self._manager.hits(self._record(request).sandbox_id)})

    async def _note_limit(self, request: Request) -> Response:
        """Not E2B's: whoever runs commands tells of the limits that it held them to."""
        limit = (await _json(request)).get("limit")
        if limit not in LIMIT_NAMES:
            raise BadRequestError(f"limit must be one of {', '.join(LIMIT_NAMES)}")
        self._manager.note(self._record(request).sandbox_id, limit)
        return Response(status_code=204)


def problem(status: int, message: str, error_code: str | None = None) -> Response:
    body: dict[str, Any] = {"code": status, "message": message}
    return JSONResponse(body | ({"error_code": error_code} if error_code else {}), status)


async def _json(request: Request) -> dict[str, Any]:
    try:
        body = await request.json()
    except ValueError as error:
        raise BadRequestError("the body is not JSON") from error
    if not isinstance(body, dict):
        raise BadRequestError("the body is not a JSON object")
    return body


def _order(record: SandboxRecord) -> tuple[datetime, str]:
    return record.started_at, record.sandbox_id


def _page(records: list[SandboxRecord], limit: int, token: str | None) -> tuple[list[SandboxRecord], str | None]:
    """A page of sorted records, and the token of the next one: the id of this page's last."""
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


def _number(text: str | None, default: int, most: int | None) -> int:
    if text is None:
        return default
    if not text.isdigit() or (most is not None and not 0 < int(text) <= most):
        raise BadRequestError(f"'{text[:20]}' is not a number in range")
    return int(text)


def _moment(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError as error:
        raise BadRequestError("startedAfter is not a time") from error


def _milliseconds(time: datetime) -> int:
    return int(time.timestamp() * 1000)

"""What holds for every request: an id, a bounded body of the right type, careful headers, a measurement."""

import secrets
import time

from fastapi import Request
from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import response

_SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_DOCS_PATHS = ("/docs", "/openapi.json")
_POLICY = "default-src 'none'; frame-ancestors 'none'"


class Gate:
    """ASGI middleware around the whole app."""

    def __init__(self, app: ASGIApp, *, max_body_bytes: int, registry: CollectorRegistry) -> None:
        self._app = app
        self._max_body = max_body_bytes
        self._requests = Counter(
            "flow_nexus_http_requests", "Requests by operation and status", ["operation", "status"], registry=registry
        )
        self._seconds = Histogram(
            "flow_nexus_http_request_seconds",
            "Seconds until the response began",
            ["operation"],
            registry=registry,
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope["request_id"] = f"req_{secrets.token_hex(8)}"
        started = time.perf_counter()

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._dress(scope, message)
                self._measure(scope, message["status"], time.perf_counter() - started)
            await send(message)

        request = Request(scope)
        headers = Headers(scope=scope)
        streamed = scope["method"] == "PUT" and scope["path"].endswith("/files")
        if scope["method"] in ("POST", "PUT", "PATCH") and not streamed:
            length = headers.get("content-length", "")
            has_body = length not in ("", "0") or "transfer-encoding" in headers
            if has_body and not _is_json(headers.get("content-type", "")):
                refusal = response(request, 415, "unsupported_media_type", "Send the body as application/json.")
                await refusal(scope, receive, send_with_headers)
                return
            if length.isdecimal() and int(length) > self._max_body:
                refusal = response(request, 413, "body_too_large", "The JSON body is too large.")
                await refusal(scope, receive, send_with_headers)
                return
            receive = self._counted(receive)
        await self._app(scope, receive, send_with_headers)

    def _counted(self, receive: Receive) -> Receive:
        taken = 0

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._max_body:
                raise HTTPException(413)
            return message

        return counted

    def _dress(self, scope: Scope, message: Message) -> None:
        headers = MutableHeaders(scope=message)
        headers["X-Request-Id"] = scope["request_id"]
        for name, value in _SECURITY_HEADERS.items():
            headers.setdefault(name, value)
        if not scope["path"].startswith(_DOCS_PATHS):
            headers.setdefault("Content-Security-Policy", _POLICY)

    def _measure(self, scope: Scope, status: int, seconds: float) -> None:
        operation = getattr(scope.get("route"), "operation_id", None) or "none"
        self._requests.labels(operation, str(status)).inc()
        self._seconds.labels(operation).observe(seconds)


def _is_json(content_type: str) -> bool:
    media_type = content_type.partition(";")[0].strip().lower()
    return media_type == "application/json" or (media_type.startswith("application/") and media_type.endswith("+json"))

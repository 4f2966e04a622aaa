"""Compress large JSON answers for clients that accept gzip."""

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.gzip import GZipResponder, IdentityResponder
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Below this, the time to compress is more than what a local network saves.
_MIN_BYTES = 8_192
_LEVEL = 5
_COMPRESSED = (
    "application/json",
    "application/problem+json",
    "text/css",
    "text/html",
    "text/javascript",
    "text/markdown",
    "text/plain",
)


class _JsonResponder(GZipResponder):
    """Compress answers of some types. A compressed answer has a weak ETag: its bytes are others."""

    async def send_with_compression(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            media_type = Headers(raw=message["headers"]).get("content-type", "").partition(";")[0].strip().lower()
            if media_type not in _COMPRESSED:
                self.exclude_content_types = (media_type,)
        await super().send_with_compression(message)

    async def apply_compression(self, body: bytes, *, more_body: bool) -> bytes:
        headers = MutableHeaders(raw=self.initial_message["headers"])
        tag = headers.get("etag", "")
        if tag.startswith('"'):
            headers["ETag"] = f"W/{tag}"
        return await super().apply_compression(body, more_body=more_body)


class CompressionMiddleware:
    """ASGI middleware inside `RequestMiddleware`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app: ASGIApp = self._app
        if scope["type"] == "http" and _accepts_gzip(Headers(scope=scope).get("accept-encoding", "")):
            app = _JsonResponder(self._app, _MIN_BYTES, _LEVEL)
        elif scope["type"] == "http":
            app = IdentityResponder(self._app, _MIN_BYTES)
        await app(scope, receive, send)


def _accepts_gzip(header: str) -> bool:
    """Return whether a client accepts gzip. A weight of 0 refuses it (RFC 9110)."""
    for part in header.lower().split(","):
        coding, _, weight = part.partition(";")
        if coding.strip() in ("gzip", "*"):
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False

"""The API's HTTP server: uvicorn with limits on the request head.

uvicorn has no limit on the time or the size of a request head, and leaves this to a proxy. Here a
head has ten seconds and 64 KiB.
"""

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_TIMEOUT_S = 10.0
MAX_HEAD_BYTES = 65_536
# At shutdown, open event streams end after this time.
_DRAIN_S = 2
_OF_UPGRADE = frozenset({b"upgrade", b"connection", b"http2-settings"})


class HttpProtocol(HttpToolsProtocol):
    """One connection.

    Between requests, uvicorn's keep-alive timeout holds until the first byte arrives.
    """

    _timer: asyncio.TimerHandle | None = None
    _in_head = True
    _head_bytes = 0
    _received = b""
    # The head of a request that asks for another protocol, without that wish.
    _plain_head: bytes | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head_bytes += len(data)
            if self._timer is None:
                self._start_timer()
        self._received = data
        super().data_received(data)
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES:
            self._refuse("431 Request Header Fields Too Large")

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            self._plain_head = self._head_without_upgrade()
            return
        self._stop_timer()
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        if self._plain_head is not None:
            return
        self._stop_timer()
        self._in_head, self._head_bytes = True, 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        # The answer was sent before the whole body arrived. Nothing else times the rest of it.
        if not self._in_head and self._timer is None:
            self._start_timer()

    def _should_upgrade(self) -> bool:
        return False

    def _unsupported_upgrade_warning(self) -> None:
        """Answer a request that asks for another protocol as an ordinary one (RFC 9110, 7.8).

        Java's client asks for HTTP/2 so. The parser ends at such a head, and would take the body
        for the next request.
        """
        stopped, head = sys.exception(), self._plain_head
        if stopped is None or head is None:
            return
        self._plain_head, self._head_bytes = None, 0
        self.parser = httptools.HttpRequestParser(self)
        self.data_received(head + self._received[stopped.args[0] :])

    def _head_without_upgrade(self) -> bytes:
        """Return the head that was parsed. It names no other protocol."""
        version = self.parser.get_http_version().encode()
        lines = [b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, version)]
        lines += [b"%s: %s" % header for header in self.headers if header[0] not in _OF_UPGRADE]
        if any(name == b"connection" and b"close" in value.lower() for name, value in self.headers):
            lines.append(b"connection: close")
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def _start_timer(self) -> None:
        self._timer = self.loop.call_later(HEAD_TIMEOUT_S, self._refuse, "408 Request Timeout")

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self, status: str) -> None:
        self._stop_timer()
        if not self.transport.is_closing():
            if self._in_head and self._head_bytes:
                self.transport.write(f"HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".encode())
            self.transport.close()


def make_config(app: str | Callable[..., Any], **options: Any) -> uvicorn.Config:
    """Return uvicorn's configuration for this service. `options` are uvicorn's own options."""
    defaults = {
        "http": HttpProtocol,
        "ws": "none",
        "server_header": False,
        "access_log": False,
        # The process logs as `log_setup` says.
        "log_config": None,
        "timeout_graceful_shutdown": _DRAIN_S,
    }
    return uvicorn.Config(app, **{**defaults, **options})

"""Forward HTTP into sandboxes.

Bodies are streamed both ways in constant memory. A client that disconnects ends its request.
"""

import asyncio
import contextlib
import hmac
import logging
import socket
from collections.abc import AsyncIterator, Iterable

import httpcore
from starlette.responses import JSONResponse
from starlette.types import Message, Receive, Scope, Send

from workers.sandboxes.host.envd.wire import ENVD_PORT
from workers.sandboxes.host.running_sandbox import PortClosedError, SandboxGoneError
from workers.sandboxes.host.sandbox_manager import NoSandboxError, SandboxManager
from workers.sandboxes.host.sandbox_record import SandboxRecord
from workers.sandboxes.host.socket_stream import SocketStream

_LOG = logging.getLogger(__name__)
SANDBOX_HEADER = b"e2b-sandbox-id"
PORT_HEADER = b"e2b-sandbox-port"
ACCESS_HEADER = b"x-access-token"
TRAFFIC_HEADER = b"e2b-traffic-access-token"
_ROUTING = {SANDBOX_HEADER, PORT_HEADER, ACCESS_HEADER, TRAFFIC_HEADER}
_HOP_BY_HOP = {
    b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te", b"trailer",
    b"upgrade", b"expect",
}  # fmt: skip


class _SandboxConnection(httpcore.AsyncHTTP11Connection):
    """Reads up to 1 MiB at a time instead of 64 KiB, because models have many megabytes."""

    READ_NUM_BYTES = 1 << 20


class _ClientGoneError(Exception):
    pass


class SandboxProxy:
    """An ASGI application for requests that name a sandbox.

    With `ports_only`, envd cannot be reached. The sandboxes' gateway uses that.
    """

    def __init__(self, manager: SandboxManager, *, ports_only: bool) -> None:
        self._manager = manager
        self._ports_only = ports_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        sandbox_id = headers.get(SANDBOX_HEADER, b"").decode("latin-1")
        try:
            port = int(headers.get(PORT_HEADER, b""))
            if not 0 < port < 65536:
                raise ValueError
        except ValueError:
            await _problem(400, "the header E2b-Sandbox-Port must be a port number")(scope, receive, send)
            return
        refusal = self._refuse(sandbox_id, port, headers)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        try:
            connection = await (await self._manager.running_sandbox(sandbox_id)).dial(port)
        except (NoSandboxError, SandboxGoneError):
            await _gone(sandbox_id)(scope, receive, send)
        except PortClosedError:
            closed = {"sandboxId": sandbox_id, "message": "The sandbox is running but port is not open", "port": port}
            await JSONResponse(closed | {"code": 502}, 502)(scope, receive, send)
        else:
            await _forward(connection, scope, receive, send)

    def _refuse(self, sandbox_id: str, port: int, headers: dict[bytes, bytes]) -> JSONResponse | None:
        try:
            record = self._manager.get(sandbox_id)
        except NoSandboxError:
            return _gone(sandbox_id)
        if b"upgrade" in headers:
            return _problem(501, "this host does not forward protocol upgrades")
        if port == ENVD_PORT:
            if self._ports_only:
                return _problem(403, "only the ports of a sandbox's own servers can be reached from here")
            if not _equal(headers.get(ACCESS_HEADER), record.access_token):
                return _problem(401, "the header X-Access-Token is missing or wrong for this sandbox")
        elif not self._has_traffic_token(record, headers):
            return _problem(403, "the header e2b-traffic-access-token is missing or wrong for this sandbox")
        return None

    @staticmethod
    def _has_traffic_token(record: SandboxRecord, headers: dict[bytes, bytes]) -> bool:
        return record.traffic_token is None or _equal(headers.get(TRAFFIC_HEADER), record.traffic_token)


def _equal(given: bytes | None, expected: str) -> bool:
    return hmac.compare_digest(given or b"", expected.encode())


def _problem(status: int, message: str) -> JSONResponse:
    return JSONResponse({"code": status, "message": message}, status)


def _gone(sandbox_id: str) -> JSONResponse:
    return JSONResponse({"sandboxId": sandbox_id, "message": "The sandbox was not found", "code": 502}, 502)


async def _forward(connection: socket.socket, scope: Scope, receive: Receive, send: Send) -> None:
    origin = httpcore.Origin(b"http", b"sandbox", 80)
    upstream = _SandboxConnection(origin, SocketStream(connection))
    request = _ProxiedRequest(upstream, scope, receive, send)
    try:
        await request.run()
    except _ClientGoneError:
        pass
    except (httpcore.NetworkError, httpcore.ProtocolError) as error:
        _LOG.info("a sandbox's connection failed: %s", type(error).__name__)
        if request.answered:
            # The status has been sent. Only a broken connection can show that the body is cut.
            raise
        await _problem(502, "the connection to the sandbox was lost")(scope, receive, send)
    finally:
        await upstream.aclose()


class _ProxiedRequest:
    """One forwarded request and its answer."""

    def __init__(self, upstream: httpcore.AsyncHTTP11Connection, scope: Scope, receive: Receive, send: Send) -> None:
        self._upstream = upstream
        self._scope = scope
        self._receive = receive
        self._send = send
        self._sent = asyncio.Event()
        self.answered = False

    async def run(self) -> None:
        """Forward the request. Stop as soon as the client disconnects."""
        answer = asyncio.create_task(self._forward())
        disconnect = asyncio.create_task(self._wait_for_disconnect())
        try:
            await asyncio.wait({answer, disconnect}, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                answer.result()
        finally:
            for task in (answer, disconnect):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await task

    async def _wait_for_disconnect(self) -> None:
        """Wait until the client disconnects. The body uses the same channel, so it comes first."""
        await self._sent.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def _forward(self) -> None:
        raw_path = self._scope.get("raw_path") or self._scope["path"].encode()
        query = self._scope["query_string"]
        target = raw_path + (b"?" + query if query else b"")
        request = httpcore.Request(
            self._scope["method"],
            httpcore.URL(scheme=b"http", host=b"sandbox", port=80, target=target),
            headers=[*_forwarded_headers(self._scope["headers"], _ROUTING), (b"connection", b"close")],
            content=self._body(),
        )
        response = await self._upstream.handle_async_request(request)
        self._sent.set()
        start: Message = {
            "type": "http.response.start",
            "status": response.status,
            "headers": _forwarded_headers(response.headers, {b"transfer-encoding"}),
        }
        self.answered = True
        await self._send(start)
        async for chunk in response.aiter_stream():
            await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _body(self) -> AsyncIterator[bytes]:
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise _ClientGoneError
            more = message.get("more_body", False)
            if not more:
                self._sent.set()
            if body := message.get("body", b""):
                yield body


def _forwarded_headers(headers: Iterable[tuple[bytes, bytes]], without: set[bytes]) -> list[tuple[bytes, bytes]]:
    left_out = _HOP_BY_HOP | without
    return [(name, value) for name, value in headers if name.lower() not in left_out]

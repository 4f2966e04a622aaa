"""What a sandbox reaches of the host: the ports of its peers, for whoever has their tokens, and nothing else.

Each sandbox has a socket of its own, so that one that opens connections without end uses up its own and nobody else's.
"""

import asyncio
import contextlib
import os
import socket
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp
from uvicorn.server import ServerState

FOLDER = "gateway"
SOCKET = "peers.sock"
MAX_CONNECTIONS = 128
_FULL_S = 0.05


class Gateway:
    """Listens from `open` to `close`; it outlives the sandbox's first process."""

    def __init__(self, application: ASGIApp) -> None:
        self._config = uvicorn.Config(application, lifespan="off", access_log=False, log_config=None, server_header=False)
        self._config.load()
        self._state = ServerState()
        self._listener: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None

    def open(self, folder: Path) -> None:
        """Bind the socket in `folder`, by way of its descriptor: socket paths are short, home folders may not be."""
        place = folder / FOLDER
        place.mkdir(mode=0o755, exist_ok=True)
        place.chmod(0o755)
        (place / SOCKET).unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self._listener.bind(f"/proc/self/fd/{descriptor}/{SOCKET}")
        finally:
            os.close(descriptor)
        (place / SOCKET).chmod(0o666)
        self._listener.listen(MAX_CONNECTIONS)
        self._listener.setblocking(False)
        self._accepting = asyncio.create_task(self._accept(self._listener))

    async def close(self) -> None:
        if self._accepting is None or self._listener is None:
            return
        self._accepting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._accepting
        self._listener.close()
        for connection in list(self._state.connections):
            connection.shutdown()

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if len(self._state.connections) >= MAX_CONNECTIONS:
                await asyncio.sleep(_FULL_S)
                continue
            try:
                connection, _ = await loop.sock_accept(listener)
                await loop.connect_accepted_socket(self._protocol, connection)
            except OSError:
                # Out of descriptors, say, or the peer is gone again.
                await asyncio.sleep(_FULL_S)

    def _protocol(self) -> asyncio.Protocol:
        made: asyncio.Protocol = self._config.http_protocol_class(  # type: ignore[call-arg]
            config=self._config, server_state=self._state, app_state={}
        )
        return made

"""The gateway through which a sandbox reaches the ports of its peers, with the peers' tokens.

A sandbox reaches nothing else of the host. Each sandbox has a socket of its own. A sandbox that
opens too many connections therefore uses up only its own.
"""

import asyncio
import contextlib
import os
import socket
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp
from uvicorn.server import ServerState

GATEWAY_FOLDER = "gateway"
GATEWAY_SOCKET = "peers.sock"
MAX_CONNECTIONS = 128
_PAUSE_S = 0.05


class Gateway:
    """Listens from `open` to `close`, also while the sandbox's first process is restarted."""

    def __init__(self, application: ASGIApp) -> None:
        self._config = uvicorn.Config(application, lifespan="off", access_log=False, log_config=None, server_header=False)
        self._config.load()
        self._state = ServerState()
        self._listener: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None

    def open(self, folder: Path) -> None:
        """Bind the socket in `folder`.

        The path goes through the folder's descriptor, because a socket's path must be short.
        """
        gateway_folder = folder / GATEWAY_FOLDER
        gateway_folder.mkdir(mode=0o755, exist_ok=True)
        gateway_folder.chmod(0o755)
        (gateway_folder / GATEWAY_SOCKET).unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        descriptor = os.open(gateway_folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self._listener.bind(f"/proc/self/fd/{descriptor}/{GATEWAY_SOCKET}")
        finally:
            os.close(descriptor)
        (gateway_folder / GATEWAY_SOCKET).chmod(0o666)
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
                await asyncio.sleep(_PAUSE_S)
                continue
            try:
                connection, _ = await loop.sock_accept(listener)
                await loop.connect_accepted_socket(self._protocol, connection)
            except OSError:
                # For example, no descriptor is free, or the peer has closed the connection.
                await asyncio.sleep(_PAUSE_S)

    def _protocol(self) -> asyncio.Protocol:
        protocol: asyncio.Protocol = self._config.http_protocol_class(  # type: ignore[call-arg]
            config=self._config, server_state=self._state, app_state={}
        )
        return protocol

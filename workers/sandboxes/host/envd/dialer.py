"""Answer the host's requests for connections to ports inside the sandbox."""

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable

from .sandbox_paths import SandboxPaths
from .wire import ENVD_PORT, FRAME

_CONNECT_S = 5.0


class Dialer:
    """Serves the control socket until the host is gone.

    `accept` receives envd's end of a connection to envd itself.
    """

    def __init__(self, control: socket.socket, paths: SandboxPaths, accept: Callable[[socket.socket], Awaitable[None]]) -> None:
        self._control = control
        self._paths = paths
        self._accept = accept
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        self._control.setblocking(False)
        loop = asyncio.get_running_loop()
        while True:
            frame = await loop.sock_recv(self._control, FRAME.size)
            if len(frame) != FRAME.size:
                return
            task = asyncio.create_task(self._answer(*FRAME.unpack(frame)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer(self, request: int, port: int) -> None:
        try:
            connection = await self._connect(port)
        except OSError as error:
            await self._send(request, error.errno or errno.ECONNREFUSED, [])
            return
        with connection:
            await self._send(request, 0, [connection.fileno()])

    async def _connect(self, port: int) -> socket.socket:
        if port == ENVD_PORT:
            envd_end, host_end = socket.socketpair()
            envd_end.setblocking(False)
            await self._accept(envd_end)
            return host_end
        # An isolated sandbox cannot own a TCP port of the machine, so its servers listen on a file.
        socket_file = self._paths.resolve(f"/run/{port}.sock")
        if socket_file.is_socket():
            return await _open_connection(socket.AF_UNIX, str(socket_file))
        try:
            return await _open_connection(socket.AF_INET, ("127.0.0.1", port))
        except ConnectionRefusedError:
            return await _open_connection(socket.AF_INET6, ("::1", port))

    async def _send(self, request: int, status: int, descriptors: list[int]) -> None:
        while True:
            try:
                socket.send_fds(self._control, [FRAME.pack(request, status)], descriptors)
            except BlockingIOError:
                await asyncio.sleep(0.01)
            except OSError:
                return
            else:
                return


async def _open_connection(family: socket.AddressFamily, address: str | tuple[str, int]) -> socket.socket:
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        async with asyncio.timeout(_CONNECT_S):
            await asyncio.get_running_loop().sock_connect(connection, address)
        if family != socket.AF_UNIX:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        connection.close()
        raise
    return connection

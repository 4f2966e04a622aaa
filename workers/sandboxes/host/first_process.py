"""The first process of a sandbox, as the host sees it: started by command, or forked."""

import asyncio
import contextlib
import socket
from typing import Protocol


class FirstProcess(Protocol):
    async def wait(self) -> None:
        """Return when the process has ended."""
        ...

    def kill(self) -> None: ...


class StartedProcess:
    """A child of the host."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def wait(self) -> None:
        await self._process.wait()

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()


class ForkedProcess:
    """A child of the template process. It ends when `connection` closes, and the reverse."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._ended = asyncio.create_task(self._wait_for_end())

    async def _wait_for_end(self) -> None:
        with contextlib.suppress(OSError), self._connection:
            await asyncio.get_running_loop().sock_recv(self._connection, 1)

    async def wait(self) -> None:
        await asyncio.shield(self._ended)

    def kill(self) -> None:
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_WR)

"""One running sandbox: its first process, and the socket over which that process hands out connections."""

import asyncio
import contextlib
import errno
import itertools
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Self

from workers.sandboxes.host.config import SandboxLimits
from workers.sandboxes.host.envd.wire import ENVD_PORT, FRAME, LIMIT_NAMES, NOTICE, SandboxSettings
from workers.sandboxes.host.gateway import FOLDER
from workers.sandboxes.host.isolation.cgroups import Cgroups
from workers.sandboxes.host.isolation.choose import Isolation
from workers.sandboxes.host.isolation.plan import make_root, search_path
from workers.sandboxes.host.sandbox_record import SandboxRecord

_DIAL_S = 10.0
_BOOT_S = 30.0
_DIE_S = 10.0
LOG_FILE = "log.jsonl"
ROOT_FOLDER = "root"


class PortClosedError(Exception):
    """Nothing inside the sandbox accepts connections on that port."""


class SandboxGoneError(Exception):
    """The sandbox's first process has ended."""


class RunningSandbox:
    """Use `boot` to make one. It stays usable until its process ends; `wait` tells when."""

    def __init__(
        self, process: asyncio.subprocess.Process, control: socket.socket, note: Callable[[str], None], *, isolated: bool
    ) -> None:
        self._process = process
        self._note = note
        self._isolated = isolated
        self._control = control
        self._requests = itertools.count()
        self._waiting: dict[int, asyncio.Future[socket.socket]] = {}
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def boot(
        cls,
        record: SandboxRecord,
        folder: Path,
        isolation: Isolation,
        cgroups: Cgroups | None,
        limits: SandboxLimits,
        note: Callable[[str], None],
    ) -> Self:
        """Start the sandbox whose files lie in `folder`; return when it answers. Raise OSError when it does not.

        `note` is told the name of each limit that envd saw the sandbox run into.
        """
        root = folder / ROOT_FOLDER
        owner = isolation.owner(record.number)
        make_root(root, owner)
        join, seen = [], {}
        if cgroups is not None:
            join = cgroups.create(record.sandbox_id, limits.memory_bytes, limits.processes)
            seen = cgroups.seen_inside(record.sandbox_id)
        control, inside = socket.socketpair()
        log = os.open(folder / LOG_FILE, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            run = ["-m", "envd", "--control", str(inside.fileno()), "--log", str(log)]
            process = await asyncio.create_subprocess_exec(
                *isolation.command(root, folder / FOLDER, owner, limits.memory_bytes // 2, seen, join, run),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={},
                pass_fds=(inside.fileno(), log),
                start_new_session=True,
            )
        finally:
            inside.close()
            os.close(log)
        settings = SandboxSettings(
            root=isolation.root_inside(root),
            path=search_path(),
            python_path=isolation.python_path,
            memory_bytes=limits.memory_bytes,
            disk_bytes=limits.disk_bytes,
            files=limits.files,
            processes=limits.processes,
            watch_memory=cgroups is None,
            per_sandbox_limits=isolation.own_users,
            envs=record.envs,
        )
        try:
            settings.send(control)
            control.setblocking(False)
            machine = cls(process, control, note, isolated=isolation.isolated)
            async with asyncio.timeout(_BOOT_S):
                (await machine.dial(ENVD_PORT)).close()
        except BaseException as error:
            control.close()
            _kill(process)
            await process.wait()
            if isinstance(error, OSError | SandboxGoneError | PortClosedError):
                raise OSError(errno.EIO, "the sandbox did not start") from error
            raise
        return machine

    async def dial(self, port: int) -> socket.socket:
        """A connected, non-blocking socket to a port inside. Raise PortClosedError or SandboxGoneError."""
        if self._reader.done():
            raise SandboxGoneError
        request = next(self._requests) % NOTICE
        answer: asyncio.Future[socket.socket] = asyncio.get_running_loop().create_future()
        self._waiting[request] = answer
        try:
            await asyncio.get_running_loop().sock_sendall(self._control, FRAME.pack(request, port))
            async with asyncio.timeout(_DIAL_S):
                return await answer
        except TimeoutError as error:
            raise PortClosedError("the sandbox does not answer") from error
        except OSError as error:
            raise SandboxGoneError from error
        finally:
            self._waiting.pop(request, None)

    async def _read(self) -> None:
        """Match answers to requests until envd is gone. Sockets nobody waits for any more are closed."""
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(self._control, readable.set)
        try:
            while True:
                await readable.wait()
                readable.clear()
                with contextlib.suppress(BlockingIOError):
                    while self._receive():
                        pass
                    return
        except OSError:
            return
        finally:
            loop.remove_reader(self._control)
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(SandboxGoneError())

    def _receive(self) -> bool:
        frame, descriptors, _, _ = socket.recv_fds(self._control, FRAME.size, 1)
        if len(frame) != FRAME.size:
            return False
        request, status = FRAME.unpack(frame)
        if request == NOTICE:
            if status < len(LIMIT_NAMES):
                self._note(LIMIT_NAMES[status])
            return True
        answer = self._waiting.get(request)
        if descriptors:
            connection = socket.socket(fileno=descriptors[0])
            connection.setblocking(False)
            if answer is None or answer.done():
                connection.close()
            else:
                answer.set_result(connection)
        elif answer is not None and not answer.done():
            answer.set_exception(PortClosedError(os.strerror(status)))
        return True

    async def wait(self) -> None:
        """Return when the first process has ended."""
        await self._process.wait()

    async def stop(self) -> None:
        """End every process. Where the kernel does not take them along, closing the socket tells envd to."""
        self._reader.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._reader
        self._control.close()
        if self._isolated:
            _kill(self._process)
        try:
            async with asyncio.timeout(_DIE_S):
                await self._process.wait()
        except TimeoutError:
            _kill(self._process)
            await self._process.wait()


def _kill(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()

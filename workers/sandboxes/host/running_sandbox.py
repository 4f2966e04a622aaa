"""One running sandbox: its first process, and the socket through which it gives connections."""

import asyncio
import contextlib
import errno
import itertools
import os
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Self

from workers.sandboxes.host.config import SandboxLimits
from workers.sandboxes.host.envd.wire import ENVD_PORT, FRAME, LIMIT_NAMES, NOTICE, SandboxSettings
from workers.sandboxes.host.first_process import FirstProcess
from workers.sandboxes.host.gateway import GATEWAY_FOLDER
from workers.sandboxes.host.isolation.cgroups import Cgroups
from workers.sandboxes.host.isolation.choose import SandboxLaunch
from workers.sandboxes.host.isolation.plan import make_root, search_path
from workers.sandboxes.host.sandbox_record import SandboxRecord
from workers.sandboxes.host.sandbox_starter import SandboxStarter

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
    """Create one with `boot`. It is usable until its first process ends; `wait` returns then."""

    def __init__(
        self, process: FirstProcess, control: socket.socket, on_limit: Callable[[str], None], *, isolated: bool
    ) -> None:
        self._process = process
        self._on_limit = on_limit
        self._isolated = isolated
        self._control = control
        self._requests = itertools.count()
        self._waiting: dict[int, asyncio.Future[socket.socket]] = {}
        self._reader = asyncio.create_task(self._read_answers())

    @classmethod
    async def boot(
        cls,
        record: SandboxRecord,
        folder: Path,
        starter: SandboxStarter,
        cgroups: Cgroups | None,
        limits: SandboxLimits,
        on_limit: Callable[[str], None],
    ) -> Self:
        """Start the sandbox whose files lie in `folder`. Return when it answers.

        `on_limit` is called with the name of each limit that envd saw the sandbox reach.

        Raises:
            OSError: the sandbox did not start.
        """
        root = folder / ROOT_FOLDER
        isolation = starter.isolation
        owner = isolation.owner(record.number)
        make_root(root, owner)
        launch = SandboxLaunch(root, folder / GATEWAY_FOLDER, owner, shm_bytes=limits.memory_bytes // 2)
        if cgroups is not None:
            launch = replace(
                launch,
                cgroups_to_join=cgroups.create(record.sandbox_id, limits.memory_bytes, limits.processes),
                cgroups_inside=cgroups.visible_inside(record.sandbox_id),
            )
        control, envd_end = socket.socketpair()
        log = os.open(folder / LOG_FILE, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            process = await starter.start(launch, envd_end, log)
        except BaseException:
            control.close()
            raise
        finally:
            envd_end.close()
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
            sandbox = cls(process, control, on_limit, isolated=isolation.isolated)
            async with asyncio.timeout(_BOOT_S):
                (await sandbox.dial(ENVD_PORT)).close()
        except BaseException as error:
            control.close()
            process.kill()
            await process.wait()
            if isinstance(error, OSError | SandboxGoneError | PortClosedError):
                raise OSError(errno.EIO, "the sandbox did not start") from error
            raise
        return sandbox

    async def dial(self, port: int) -> socket.socket:
        """Return a connected, non-blocking socket to a port inside the sandbox.

        Raises:
            PortClosedError: nothing inside accepts the connection.
            SandboxGoneError: the sandbox has ended.
        """
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

    async def _read_answers(self) -> None:
        """Match answers to requests until envd is gone. Close sockets whose request has ended."""
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
                self._on_limit(LIMIT_NAMES[status])
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
        """End every process of the sandbox.

        With isolation the kernel ends them with the first process. Without it, envd ends them when
        the socket closes.
        """
        self._reader.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._reader
        self._control.close()
        if self._isolated:
            self._process.kill()
        try:
            async with asyncio.timeout(_DIE_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

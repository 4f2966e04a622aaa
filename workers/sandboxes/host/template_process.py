"""The host's side of the template process: start it, start it again, and fork sandboxes from it."""

import asyncio
import contextlib
import logging
import socket
import time

from workers.sandboxes.host.first_process import ForkedProcess
from workers.sandboxes.host.isolation.choose import Isolation, SandboxLaunch
from workers.sandboxes.host.isolation.fork_messages import READY, STARTED, encode_plan

_LOG = logging.getLogger(__name__)
_IMPORT_S = 180.0
_WAIT_S = 10.0
_ANSWER_S = 10.0
_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0
# A process that ran this long gets the first pause again.
_STABLE_S = 60.0


class TemplateError(Exception):
    """The template process cannot fork a sandbox. The sandbox is started by command."""


class TemplateProcess:
    """One process for both templates: they differ only in name.

    `fork` waits while the process imports its modules, unless that failed the last time. If the
    process ends, it is started again.
    """

    def __init__(self, isolation: Isolation) -> None:
        self._isolation = isolation
        self._process: asyncio.subprocess.Process | None = None
        self._ready: asyncio.Future[socket.socket] | None = None
        self._imports = True

    async def run(self) -> None:
        """Keep the process running until cancelled."""
        pause_s = _PAUSE_S
        while True:
            started = time.monotonic()
            try:
                await self._run_once()
            except OSError as error:
                _LOG.warning("the template process does not start: %s", error)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S) if time.monotonic() - started < _STABLE_S else _PAUSE_S
            _LOG.warning("the template process ended and is started again in %.0f s", pause_s)
            await asyncio.sleep(pause_s)

    async def _run_once(self) -> None:
        self._ready = asyncio.get_running_loop().create_future()
        control, theirs = socket.socketpair()
        control.setblocking(False)
        started = time.monotonic()
        with control:
            try:
                with theirs:
                    self._process = await asyncio.create_subprocess_exec(
                        *self._isolation.template_command(theirs.fileno()),
                        stdin=asyncio.subprocess.DEVNULL,
                        stdout=asyncio.subprocess.DEVNULL,
                        env={},
                        pass_fds=(theirs.fileno(),),
                        start_new_session=True,
                    )
                async with asyncio.timeout(_IMPORT_S):
                    if await asyncio.get_running_loop().sock_recv(control, len(READY)) != READY:
                        raise ConnectionResetError("it ended while it imported its modules")
                self._imports = True
                _LOG.info("the template process is ready after %.1f s", time.monotonic() - started)
                self._ready.set_result(control)
                await self._process.wait()
            finally:
                self._fail()
                if self._process is not None:
                    with contextlib.suppress(ProcessLookupError):
                        self._process.kill()
                    await self._process.wait()

    def _fail(self) -> None:
        if self._ready is not None and not self._ready.done():
            self._imports = False
            self._ready.cancel()
        self._ready = None

    async def fork(self, launch: SandboxLaunch, envd_control: socket.socket, log: int) -> ForkedProcess:
        """Fork a sandbox's first process.

        Raises:
            TemplateError: the process is not there, or does not answer.
        """
        control = await self._wait_until_ready()
        connection, theirs = socket.socketpair()
        connection.setblocking(False)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_ANSWER_S):
                with theirs:
                    socket.send_fds(control, [b"."], [theirs.fileno(), envd_control.fileno(), log])
                if await loop.sock_recv(connection, len(STARTED)) != STARTED:
                    raise ConnectionResetError
                await loop.sock_sendall(connection, encode_plan(self._isolation.fork_plan(launch)))
        except BaseException as error:
            connection.close()
            if isinstance(error, TimeoutError) and self._process is not None:
                # It hangs. Without this, each later sandbox would wait as long.
                with contextlib.suppress(ProcessLookupError):
                    self._process.kill()
            if isinstance(error, OSError):
                raise TemplateError from error
            raise
        return ForkedProcess(connection)

    async def _wait_until_ready(self) -> socket.socket:
        if self._ready is None or not (self._imports or self._ready.done()):
            raise TemplateError
        try:
            async with asyncio.timeout(_WAIT_S):
                return await asyncio.shield(self._ready)
        except TimeoutError as error:
            raise TemplateError from error
        except asyncio.CancelledError:
            if self._ready is None or self._ready.cancelled():
                raise TemplateError from None
            raise

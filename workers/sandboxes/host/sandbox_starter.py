"""Start a sandbox's first process: fork it from the template process, or start it by command."""

import asyncio
import contextlib
import logging
import socket

from workers.sandboxes.host.first_process import FirstProcess, StartedProcess
from workers.sandboxes.host.isolation.choose import Isolation, SandboxLaunch
from workers.sandboxes.host.template_process import TemplateError, TemplateProcess

_LOG = logging.getLogger(__name__)


class SandboxStarter:
    def __init__(self, isolation: Isolation, *, warm: bool) -> None:
        self.isolation = isolation
        self._template = TemplateProcess(isolation) if warm else None
        self._running: asyncio.Task[None] | None = None

    def open(self) -> None:
        if self._template is not None:
            self._running = asyncio.create_task(self._template.run())

    async def close(self) -> None:
        if self._running is not None:
            self._running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._running

    async def start(self, launch: SandboxLaunch, envd_end: socket.socket, log: int) -> FirstProcess:
        """`envd_end` is envd's end of its control socket. `log` is the descriptor of its log.

        Raises:
            OSError: the process did not start.
        """
        if self._template is not None:
            try:
                return await self._template.fork(launch, envd_end, log)
            except TemplateError:
                _LOG.warning("the template process does not answer: a sandbox is started by command")
        arguments = ["-m", "envd", "--control", str(envd_end.fileno()), "--log", str(log)]
        process = await asyncio.create_subprocess_exec(
            *self.isolation.command(launch, arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={},
            pass_fds=(envd_end.fileno(), log),
            start_new_session=True,
        )
        return StartedProcess(process)

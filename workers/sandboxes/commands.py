"""Commands inside a sandbox, with limits on their time and output."""

import asyncio
import contextlib
import time
from typing import Literal

from e2b import AsyncCommandHandle, AsyncSandbox, CommandExitException
from e2b.exceptions import SandboxException, TimeoutException

from api.domain.sandboxes import CommandResult
from workers.sandboxes.host.envd.wire import MEMORY_LIMIT_REACHED

_OPEN_S = 30.0
_KILL_S = 10.0
# If this process ends, the sandbox itself kills the command after this extra time.
_GRACE_S = 15.0
_STDIN_CHUNK = 256 << 10


class _CappedOutput:
    """The first `room` bytes of a stream. Sets `full` when there are more."""

    def __init__(self, room: int, full: asyncio.Event) -> None:
        self._parts: list[bytes] = []
        self._room = room
        self._full = full

    def add(self, text: str) -> None:
        data = text.encode()
        if len(data) > self._room:
            self._full.set()
        self._parts.append(data[: self._room])
        self._room -= min(self._room, len(data))

    def text(self) -> str:
        return b"".join(self._parts).decode(errors="ignore")


async def run_command(
    sandbox: AsyncSandbox, command: str, *, timeout_s: float, max_output: int, stdin: str | None, cwd: str | None = None
) -> CommandResult:
    """Run a shell command. `max_output` limits stdout and stderr each, in bytes.

    A command that reaches one of these limits is killed with its process group. It then has no exit
    code. The limit `memory` is set only if the host reports it.
    If the sandbox fails, the SDK's errors are raised.
    """
    full = asyncio.Event()
    out, err = _CappedOutput(max_output, full), _CappedOutput(max_output, full)
    started = time.monotonic()
    handle = await sandbox.commands.run(
        command,
        background=True,
        stdin=stdin is not None,
        cwd=cwd,
        timeout=timeout_s + _GRACE_S,
        request_timeout=_OPEN_S,
        on_stdout=out.add,
        on_stderr=err.add,
        retain_output=False,
    )
    ending = asyncio.create_task(_exit_code_and_error(handle))
    filling = asyncio.create_task(full.wait())
    feeding = asyncio.create_task(_feed(sandbox, handle.pid, stdin))
    limit: Literal["timeout", "output", "memory"] | None = None
    exit_code: int | None = None
    try:
        await asyncio.wait({ending, filling}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if full.is_set():
            limit = "output"
        elif not ending.done():
            limit = "timeout"
        else:
            exit_code, error = ending.result()
            limit = "memory" if error == MEMORY_LIMIT_REACHED else None
    finally:
        for task in (ending, filling, feeding):
            task.cancel()
        if not ending.done() or limit in ("timeout", "output"):
            await _kill(handle)
    duration_ms = round(1000 * (time.monotonic() - started))
    return CommandResult(out.text(), err.text(), exit_code, duration_ms, limit)


async def start_command(sandbox: AsyncSandbox, command: str) -> int:
    """Start a command in the background. Return its process id inside the sandbox."""
    handle = await sandbox.commands.run(command, background=True, timeout=0, request_timeout=_OPEN_S, retain_output=False)
    pid: int = handle.pid
    await handle.disconnect()
    return pid


async def _exit_code_and_error(handle: "AsyncCommandHandle[None]") -> tuple[int, str | None]:
    try:
        return int((await handle.wait()).exit_code), None
    except CommandExitException as error:
        return int(error.exit_code), error.error


async def _feed(sandbox: AsyncSandbox, pid: int, stdin: str | None) -> None:
    """Write all of stdin and close it. Stop if the command ends early or closes its stdin."""
    if stdin is None:
        return
    data = stdin.encode()
    with contextlib.suppress(SandboxException, TimeoutException):
        for start in range(0, len(data), _STDIN_CHUNK):
            await sandbox.commands.send_stdin(pid, data[start : start + _STDIN_CHUNK])
        await sandbox.commands.close_stdin(pid)


async def _kill(handle: "AsyncCommandHandle[None]") -> None:
    """Kill a command and stop reading its output. It may have ended, as may its sandbox."""
    with contextlib.suppress(SandboxException, OSError, TimeoutError):
        async with asyncio.timeout(_KILL_S):
            await handle.kill()
    await handle.disconnect()

"""Executions in the background: code that runs on when the call that started it has ended.

A supervisor inside the sandbox runs the code and keeps its output: `workers.sandboxes.supervisor`.
Each call here is a file or a short command, so it works at every host of E2B's protocol.
The folder of the execution tells all, so any process can ask about it at any time.
"""

import base64
import io
import json
import zipfile
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Literal

from e2b import AsyncSandbox
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from api.domain.sandboxes import ExecutionEnd, ExecutionJob, ExecutionOutput, OutputPart, SandboxError
from workers.sandboxes.commands import run_command
from workers.sandboxes.scripts import Script

_FOLDER = "/tmp/.executions"  # noqa: S108 (the sandbox's own)
_ARCHIVE = "supervisor.pyz"
_SOURCES = ("__init__.py", "host/__init__.py", "host/envd/memory_kills.py", "host/envd/process_tree.py", "supervisor/*.py")
_MAIN = "from sandboxes.supervisor.main import main\nmain()\n"
_ABSENT = 44
_OPEN_S = 30.0
# The sandbox ends the code itself if its supervisor does not.
_GRACE_S = 60.0
_STOP_S = 20.0
_READ_S = 20.0
_MESSAGE_BYTES = 10_000


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True)


class _End(_Strict):
    exit_code: int | None = Field(ge=-(2**31), lt=2**31)
    limit: Literal["timeout", "output", "memory"] | None
    stopped: bool
    started_at: float | None
    ended_at: float


class _Part(_Strict):
    begin: int = Field(ge=0, lt=2**62)
    size: int = Field(ge=0, lt=2**62)
    data: str


class _Answer(_Strict):
    state: Literal["absent", "running", "ended", "lost"]
    end: _End | None
    stdout: _Part
    stderr: _Part


async def start(sandbox: AsyncSandbox, execution_id: str, script: Script, job: ExecutionJob, *, machine_is_own: bool) -> None:
    """Start the script in the background. If it was started before, nothing happens.

    The SDK's errors are raised if the sandbox fails.
    """
    order = {
        "command": script.command,
        "cleanup": script.cleanup,
        "input": script.stdin,
        "timeout_s": job.timeout_s,
        "max_output": job.max_output,
        "machine_is_own": machine_is_own,
    }
    await _send_supervisor(sandbox, execution_id)
    await sandbox.files.write(f"{_folder(execution_id)}/job.json", json.dumps(order), request_timeout=_OPEN_S)
    handle = await sandbox.commands.run(
        f"exec {_command(execution_id)} run",
        background=True,
        cwd=job.options.cwd,
        timeout=job.timeout_s + _GRACE_S,
        request_timeout=_OPEN_S,
        retain_output=False,
    )
    await handle.disconnect()


async def read(
    sandbox: AsyncSandbox, execution_id: str, *, after: tuple[int, int], most: int, wait_s: float
) -> ExecutionOutput:
    """Return the state and at most `most` bytes of stdout and of stderr each.

    `after` is the position in stdout and in stderr; a negative one counts from the end. The answer
    waits at most `wait_s` seconds for output or the end. With `most` 0 it waits for the end alone.

    Raises:
        SandboxError: the answer cannot be read.
    """
    command = f'test -e "${{SANDBOX_ROOT-}}"{_archive_path(execution_id)} || exit {_ABSENT}; '
    command += f"{_command(execution_id)} read {after[0]} {after[1]} {most} {wait_s}"
    # Base64 makes the output longer by a third.
    room = 4 * most + _MESSAGE_BYTES
    result = await run_command(sandbox, command, timeout_s=wait_s + _READ_S, max_output=room, stdin=None)
    if result.exit_code == _ABSENT:
        return ExecutionOutput("absent", None, OutputPart(0, 0, b""), OutputPart(0, 0, b""))
    if result.exit_code != 0:
        raise SandboxError("the sandbox could not tell the state of the execution")
    try:
        answer = _Answer.model_validate_json(result.stdout)
        return ExecutionOutput(answer.state, _end(answer.end), _part(answer.stdout), _part(answer.stderr))
    except (ValidationError, ValueError, OverflowError) as error:
        raise SandboxError("the sandbox did not tell the state of the execution") from error


async def stop(sandbox: AsyncSandbox, execution_id: str) -> None:
    """End the code with all processes that it started. Code that has not begun never begins.

    Raises:
        SandboxError: a process could not be ended.
    """
    await _send_supervisor(sandbox, execution_id)
    command = f"{_command(execution_id)} stop"
    result = await run_command(sandbox, command, timeout_s=_STOP_S, max_output=_MESSAGE_BYTES, stdin=None)
    if result.exit_code != 0:
        raise SandboxError("the sandbox could not end the execution")


async def remove(sandbox: AsyncSandbox, execution_id: str) -> None:
    """Remove the output of an execution that has ended."""
    command = f'rm -rf -- "${{SANDBOX_ROOT-}}"{_folder(execution_id)}'
    await run_command(sandbox, command, timeout_s=_STOP_S, max_output=_MESSAGE_BYTES, stdin=None)


async def _send_supervisor(sandbox: AsyncSandbox, execution_id: str) -> None:
    """Write the supervisor into the folder of the execution, which then exists.

    It is moved to its place, because a running process may read the file meanwhile.
    """
    target = _archive_path(execution_id)
    await sandbox.files.write(f"{target}.part", _archive(), request_timeout=_OPEN_S)
    await sandbox.files.rename(f"{target}.part", target, request_timeout=_OPEN_S)


@lru_cache(maxsize=1)
def _archive() -> bytes:
    """Return the supervisor as a zip that Python can run."""
    root = Path(__file__).parent
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("__main__.py", _MAIN)
        archive.writestr("sandboxes/host/envd/__init__.py", "")
        for pattern in _SOURCES:
            for source in sorted(root.glob(pattern)):
                archive.writestr(f"sandboxes/{source.relative_to(root)}", source.read_bytes())
    return packed.getvalue()


def _folder(execution_id: str) -> str:
    return f"{_FOLDER}/{execution_id}"


def _archive_path(execution_id: str) -> str:
    return f"{_folder(execution_id)}/{_ARCHIVE}"


def _command(execution_id: str) -> str:
    return f'python -I "${{SANDBOX_ROOT-}}"{_archive_path(execution_id)}'


def _end(end: _End | None) -> ExecutionEnd | None:
    if end is None:
        return None
    started_at = None if end.started_at is None else datetime.fromtimestamp(end.started_at, UTC)
    return ExecutionEnd(end.exit_code, end.limit, end.stopped, started_at, datetime.fromtimestamp(end.ended_at, UTC))


def _part(part: _Part) -> OutputPart:
    return OutputPart(part.begin, part.size, base64.b64decode(part.data))

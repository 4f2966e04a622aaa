"""Read a sandbox's log from the file that its envd writes."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from e2b.api.client.models import LogLevel, SandboxLogEntry, SandboxLogEntryFields
from pydantic import BaseModel, ValidationError

from workers.sandboxes.host.running_sandbox import LOG_FILE
from workers.sandboxes.host.sandbox_record import STATE_FILE

_LEVELS = {"stdout": LogLevel.INFO, "stderr": LogLevel.ERROR, "system": LogLevel.WARN}


class _LogFileLine(BaseModel):
    """One line of the file. envd's lines are JSON objects with these fields."""

    time: datetime
    stream: str
    line: str
    pid: int | None = None


def read_entries(folder: Path) -> list[SandboxLogEntry]:
    """Return all lines of the log of the sandbox in `folder`, oldest first."""
    try:
        data = (folder / LOG_FILE).read_bytes()
        begun = datetime.fromtimestamp((folder / STATE_FILE).stat().st_ctime, UTC)
    except OSError:
        return []
    return list(_entries(data, begun))


def _entries(data: bytes, begun: datetime) -> Iterator[SandboxLogEntry]:
    time = begun
    for raw_line in data.splitlines():
        line = _parse(raw_line, time)
        time = line.time
        fields = {"stream": line.stream} | ({} if line.pid is None else {"pid": str(line.pid)})
        level = _LEVELS.get(line.stream, LogLevel.INFO)
        yield SandboxLogEntry(time, line.line, level, SandboxLogEntryFields.from_dict(fields))


def _parse(raw_line: bytes, previous: datetime) -> _LogFileLine:
    """Parse one line of the file.

    A line that is not JSON came from the launcher, or from envd when it failed. It gets the time
    of the previous line.
    """
    try:
        return _LogFileLine.model_validate_json(raw_line)
    except ValidationError:
        return _LogFileLine(time=previous, stream="system", line=raw_line.decode(errors="replace"))

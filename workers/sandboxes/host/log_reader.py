"""A sandbox's log, read from the file that its envd writes."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from e2b.api.client.models import LogLevel, SandboxLogEntry, SandboxLogEntryFields

from workers.sandboxes.host.running_sandbox import LOG_FILE
from workers.sandboxes.host.sandbox_record import STATE_FILE

_LEVELS = {"stdout": LogLevel.INFO, "stderr": LogLevel.ERROR, "system": LogLevel.WARN}


def read_entries(folder: Path) -> list[SandboxLogEntry]:
    """All lines kept of the sandbox whose files lie in `folder`, oldest first."""
    try:
        data = (folder / LOG_FILE).read_bytes()
        begun = datetime.fromtimestamp((folder / STATE_FILE).stat().st_ctime, UTC)
    except OSError:
        return []
    return list(_entries(data, begun))


def _entries(data: bytes, time: datetime) -> Iterator[SandboxLogEntry]:
    for line in data.splitlines():
        fields = _parsed(line)
        time = fields.get("time", time)
        level = _LEVELS.get(fields["stream"], LogLevel.INFO)
        extra = {name: str(fields[name]) for name in ("stream", "pid") if fields.get(name) is not None}
        yield SandboxLogEntry(time, fields["line"], level, SandboxLogEntryFields.from_dict(extra))


def _parsed(line: bytes) -> dict[str, Any]:
    """One JSON line; what is none came from the launcher or from envd's own end, at the time of the line before."""
    try:
        fields: dict[str, Any] = json.loads(line)
        return fields | {"time": datetime.fromisoformat(fields["time"]), "line": str(fields["line"])}
    except (ValueError, KeyError, TypeError):
        return {"stream": "system", "line": line.decode(errors="replace")}

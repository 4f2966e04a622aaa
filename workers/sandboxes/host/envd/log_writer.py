"""Write the sandbox's log: JSON lines in a file that only the host and envd can open.

The file survives both of them.
"""

import json
import os
from datetime import UTC, datetime

MAX_BYTES = 4 << 20
_KEPT_BYTES = 1 << 20
_LINE_BYTES = 4096


class SandboxLog:
    """Appends lines. When the file is full, its older part is dropped."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        os.set_inheritable(descriptor, False)
        self._size = os.fstat(descriptor).st_size

    def write(self, stream: str, line: bytes | str, pid: int | None = None) -> None:
        text = line if isinstance(line, str) else line[:_LINE_BYTES].decode(errors="replace")
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        entry = {"time": now, "stream": stream, "line": text[:_LINE_BYTES].rstrip("\r\n"), "pid": pid}
        data = json.dumps(entry, ensure_ascii=False).encode(errors="replace") + b"\n"
        if self._size + len(data) > MAX_BYTES:
            self._drop_older()
        self._size += os.write(self._descriptor, data)

    def _drop_older(self) -> None:
        tail = os.pread(self._descriptor, _KEPT_BYTES, max(0, self._size - _KEPT_BYTES))
        os.ftruncate(self._descriptor, 0)
        self._size = os.write(self._descriptor, tail[tail.find(b"\n") + 1 :])


class LineLogger:
    """Splits one stream of a process into lines and logs them. Longer lines than 4 KiB are cut."""

    def __init__(self, log: SandboxLog, stream: str, pid: int) -> None:
        self._log = log
        self._stream = stream
        self._pid = pid
        self._rest = b""

    def feed(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LINE_BYTES:
            lines.append(self._rest)
            self._rest = b""
        for line in lines:
            self._log.write(self._stream, line, self._pid)

    def close(self) -> None:
        if self._rest:
            self._log.write(self._stream, self._rest, self._pid)
            self._rest = b""

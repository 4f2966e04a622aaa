"""Count the processes of the sandbox that were killed because of its memory limit."""

import contextlib
import os
from pathlib import Path

# A command finds the count here where no kernel keeps one.
RECORD_VARIABLE = "SANDBOX_MEMORY_KILLS"
# The sandbox's own cgroup, by version 2 and version 1, as it is mounted inside.
_COUNTERS = (Path("/sys/fs/cgroup/memory.events"), Path("/sys/fs/cgroup/memory/memory.oom_control"))
_MACHINE_COUNTER = Path("/proc/vmstat")


class MemoryKills:
    """Counts kills by the kernel if `kernel_enforces` the limit, and else those that envd adds.

    envd writes its own count to `record`, so that the commands of the sandbox can read it.
    """

    def __init__(self, record: Path, *, kernel_enforces: bool) -> None:
        self._kernel_enforces = kernel_enforces
        self._record = record
        self._added = 0

    def add(self) -> None:
        self._added += 1
        with contextlib.suppress(OSError):
            self._record.write_text(str(self._added))

    def count(self) -> int:
        return self._added + (_read(_COUNTERS) if self._kernel_enforces else 0)


def visible_count(*, machine_is_own: bool) -> int:
    """Return the kills that a command of the sandbox can see.

    `machine_is_own`: the sandbox has a kernel of its own, as at E2B.
    """
    if (record := os.environ.get(RECORD_VARIABLE)) is not None:
        with contextlib.suppress(OSError, ValueError):
            return int(Path(record).read_text())
        return 0
    return _read((_MACHINE_COUNTER,) if machine_is_own else _COUNTERS)


def _read(counters: tuple[Path, ...]) -> int:
    for file in counters:
        with contextlib.suppress(OSError, ValueError):
            for line in file.read_text().splitlines():
                key, _, number = line.partition(" ")
                if key == "oom_kill":
                    return int(number)
    return 0

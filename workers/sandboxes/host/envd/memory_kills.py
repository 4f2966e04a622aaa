"""Count the processes of the sandbox that were killed because of its memory limit."""

import contextlib
from pathlib import Path

# The sandbox's own cgroup, by version 2 and version 1, as it is mounted inside.
_COUNTERS = (Path("/sys/fs/cgroup/memory.events"), Path("/sys/fs/cgroup/memory/memory.oom_control"))


class MemoryKills:
    """Counts kills by the kernel if `kernel_enforces` the limit, and else those that envd adds."""

    def __init__(self, *, kernel_enforces: bool) -> None:
        self._kernel_enforces = kernel_enforces
        self._added = 0

    def add(self) -> None:
        self._added += 1

    def count(self) -> int:
        return self._added + (_kernel_count() if self._kernel_enforces else 0)


def _kernel_count() -> int:
    for file in _COUNTERS:
        with contextlib.suppress(OSError, ValueError):
            for line in file.read_text().splitlines():
                key, _, number = line.partition(" ")
                if key == "oom_kill":
                    return int(number)
    return 0

"""The memory that a process and its descendants really use (Linux).

It needs root when the processes belong to another user.
"""

import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

_EVERY_S = 0.5
_AGENT = b"-m\0workers.agent\0"


def _descendants(pid: int) -> set[int]:
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents.setdefault(int(stat.read_text().rpartition(")")[2].split()[1]), []).append(int(stat.parent.name))
    found: set[int] = set()
    new = [pid]
    while new:
        new = [child for parent in new for child in parents.get(parent, ()) if child not in found]
        found.update(new)
    return found


def pss(pid: int) -> int | None:
    """Return bytes: private pages, plus this process's part of each shared page.

    It returns None when they cannot be read.
    """
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return None


class AgentMemory:
    """Samples the memory of the agents below a sandbox host twice a second, as a context.

    `peak` is the largest sum of all agents at one time, in bytes. It is None when it cannot be
    read.
    """

    def __init__(self, host_pid: int) -> None:
        self._host_pid = host_pid
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.peak: int | None = None
        self.agents = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._done.wait(_EVERY_S):
            sizes = [size for pid in _descendants(self._host_pid) if _is_agent(pid) and (size := pss(pid)) is not None]
            if sizes and sum(sizes) > (self.peak or 0):
                self.peak, self.agents = sum(sizes), len(sizes)


def _is_agent(pid: int) -> bool:
    with suppress(OSError):
        return _AGENT in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False

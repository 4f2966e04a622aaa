"""Measure what a sandbox uses, from inside."""

import asyncio
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from .cgroup_memory import charged_bytes
from .disk_usage import DiskUsage, measure_disk
from .sandbox_paths import SandboxPaths
from .wire import SandboxSettings, UsageReport

_PROC = Path("/proc")
WRITABLE = ("/data", "/model", "/export", "/home", "/tmp", "/run")  # noqa: S108 (the sandbox's own)


@dataclass(frozen=True, slots=True)
class ProcessUsage:
    """The use of all processes. `threads` counts what the limit on processes counts."""

    cpu_s: float
    threads: int
    bytes_by_pid: dict[int, int]

    @property
    def bytes(self) -> int:
        return sum(self.bytes_by_pid.values())


class UsageMeter:
    def __init__(self, settings: SandboxSettings, paths: SandboxPaths) -> None:
        self._settings = settings
        self._folders = [str(paths.resolve(folder)) for folder in WRITABLE]
        self._last = (time.monotonic(), 0.0)

    async def measure(self) -> UsageReport:
        """Return the use of memory without page cache, of disk, and of CPU since the last call."""
        use = measure_processes() if self.own_processes else None
        cpu_used_pct = None
        if use:
            previous_time, previous_cpu_s = self._last
            now = time.monotonic()
            cpu_used_pct = round(100 * max(0.0, use.cpu_s - previous_cpu_s) / max(now - previous_time, 1e-3), 2)
            self._last = (now, use.cpu_s)
        disk = await asyncio.to_thread(self.disk)
        return UsageReport(
            cpu_count=_cpu_count(),
            cpu_used_pct=cpu_used_pct,
            memory_used_bytes=self._memory_used(use),
            memory_total_bytes=self._settings.memory_bytes,
            disk_used_bytes=disk.bytes,
            disk_total_bytes=self._settings.disk_bytes,
        )

    def _memory_used(self, use: ProcessUsage | None) -> int | None:
        """Return the bytes without page cache, or None if they cannot be told from the machine's.

        Forked processes share the pages of their template. The kernel does not charge these.
        """
        if use is None:
            return None
        charged = None if self._settings.watch_memory else charged_bytes()
        return use.bytes if charged is None else charged

    def disk(self, stop_above: DiskUsage | None = None) -> DiskUsage:
        """Measure the sandbox's folders. Stop as soon as the count is above `stop_above`."""
        return measure_disk(self._folders, own_processes=self.own_processes, stop_above=stop_above)

    def free(self) -> tuple[int, int]:
        """Return the free bytes and the free number of files of the folders' file system."""
        status = os.statvfs(self._folders[0])
        return status.f_bavail * status.f_frsize, status.f_favail

    @property
    def own_processes(self) -> bool:
        """Whether /proc shows this sandbox's processes and no others."""
        return sys.platform == "linux" and os.getpid() == 1


def measure_processes() -> ProcessUsage:
    """Return the CPU seconds and private memory of all processes in this process namespace.

    The CPU time of ended children counts with their parents.
    """
    ticks = threads = 0
    sizes: dict[int, int] = {}
    for folder in _PROC.iterdir():
        if not folder.name.isdigit():
            continue
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            status = (folder / "status").read_text()
        except OSError:
            continue
        ticks += sum(int(value) for value in fields[11:15])
        threads += int(fields[17])
        private = (line.split()[1] for line in status.splitlines() if line.startswith(("RssAnon:", "RssShmem:")))
        sizes[int(folder.name)] = sum(map(int, private)) * 1024
    return ProcessUsage(ticks / os.sysconf("SC_CLK_TCK"), threads, sizes)


def count_shared_memory_once(sizes: dict[int, int]) -> dict[int, int]:
    """Return the private memory by process id, with memory that forks share counted once.

    It is exact, but too slow for each check.
    """
    return {pid: _proportional_size(pid, size) for pid, size in sizes.items()}


def _proportional_size(pid: int, default: int) -> int:
    try:
        lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return default
    parts = [int(line.split()[1]) * 1024 for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:"))]
    return sum(parts) if parts else default


def _cpu_count() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1

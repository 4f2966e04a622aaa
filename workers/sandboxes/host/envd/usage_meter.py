"""What a sandbox uses, measured from inside."""

import asyncio
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from .disk_usage import DiskUsage, measure_disk
from .sandbox_paths import SandboxPaths
from .wire import SandboxSettings

_PROC = Path("/proc")
WRITABLE = ("/data", "/model", "/export", "/home", "/tmp", "/run")  # noqa: S108 (the sandbox's own)


@dataclass(frozen=True, slots=True)
class ProcessUsage:
    """`threads` counts what the limit on processes counts."""

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

    async def measure(self) -> dict[str, float | int | None]:
        """CPU in percent of one core since the last measurement, memory without page cache and disk in bytes."""
        use = measure_processes() if self.own_processes else None
        cpu_used_pct = None
        if use:
            then, spent = self._last
            now = time.monotonic()
            cpu_used_pct = round(100 * max(0.0, use.cpu_s - spent) / max(now - then, 1e-3), 2)
            self._last = (now, use.cpu_s)
        disk = await asyncio.to_thread(self.disk)
        return {
            "cpu_count": _cpu_count(),
            "cpu_used_pct": cpu_used_pct,
            "memory_used_bytes": use.bytes if use else None,
            "memory_total_bytes": self._settings.memory_bytes,
            "disk_used_bytes": disk.bytes,
            "disk_total_bytes": self._settings.disk_bytes,
        }

    def disk(self, enough: DiskUsage | None = None) -> DiskUsage:
        """What the sandbox's folders hold, or what was found when it was more than `enough`."""
        return measure_disk(self._folders, own_processes=self.own_processes, enough=enough)

    def free(self) -> tuple[int, int]:
        """Bytes and files that the file system of the sandbox's folders has room for."""
        status = os.statvfs(self._folders[0])
        return status.f_bavail * status.f_frsize, status.f_favail

    @property
    def own_processes(self) -> bool:
        """Whether /proc shows this sandbox's processes and no others."""
        return sys.platform == "linux" and os.getpid() == 1


def measure_processes() -> ProcessUsage:
    """CPU seconds and private memory of every process in this process namespace; ended children count by their parents."""
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
    """The same private memory, with what forks still share counted once. Exact, but too slow to be the usual look."""
    return {pid: _share(pid, size) for pid, size in sizes.items()}


def _share(pid: int, otherwise: int) -> int:
    try:
        lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return otherwise
    parts = [int(line.split()[1]) * 1024 for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:"))]
    return sum(parts) if parts else otherwise


def _cpu_count() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1

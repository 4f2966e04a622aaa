"""What a sandbox uses, measured from inside, and the limits that no cgroup or file system holds for it."""

import asyncio
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from .log import SandboxLog
from .paths import Paths
from .processes import ProcessTable
from .wire import Settings

_PROC = Path("/proc")
_MEMORY_INTERVAL_S = 0.25
_DISK_INTERVAL_S = 5.0
WRITABLE = ("/data", "/model", "/export", "/home", "/tmp", "/run")  # noqa: S108 (the sandbox's own)


@dataclass(frozen=True, slots=True)
class _Use:
    cpu_s: float
    bytes_by_pid: dict[int, int]

    @property
    def bytes(self) -> int:
        return sum(self.bytes_by_pid.values())


class UsageWatch:
    """Measures on request; kills the largest process above the memory limit, and every command above the disk limit."""

    def __init__(self, settings: Settings, paths: Paths, table: ProcessTable, log: SandboxLog) -> None:
        self._settings = settings
        self._paths = paths
        self._table = table
        self._log = log
        self._last = (time.monotonic(), 0.0)
        self._disk_bytes = 0
        self.disk_full = False

    async def measure(self) -> dict[str, float | int | None]:
        """CPU in percent of one core since the last measurement, memory without page cache and disk in bytes."""
        use = _processes() if self._own_processes else None
        cpu_used_pct = None
        if use:
            then, spent = self._last
            now = time.monotonic()
            cpu_used_pct = round(100 * max(0.0, use.cpu_s - spent) / max(now - then, 1e-3), 2)
            self._last = (now, use.cpu_s)
        self._disk_bytes = await asyncio.to_thread(self._disk_use)
        return {
            "cpu_count": _cpu_count(),
            "cpu_used_pct": cpu_used_pct,
            "memory_used_bytes": use.bytes if use else None,
            "memory_total_bytes": self._settings.memory_bytes,
            "disk_used_bytes": self._disk_bytes,
            "disk_total_bytes": self._settings.disk_bytes,
        }

    async def run(self) -> None:
        await asyncio.gather(self._watch_memory(), self._watch_disk())

    @property
    def _own_processes(self) -> bool:
        """Whether /proc shows this sandbox's processes and no others."""
        return sys.platform == "linux" and os.getpid() == 1

    async def _watch_memory(self) -> None:
        while self._settings.watch_memory and self._own_processes:
            await asyncio.sleep(_MEMORY_INTERVAL_S)
            use = _processes()
            if use.bytes <= self._settings.memory_bytes:
                continue
            commands = {pid: size for pid, size in use.bytes_by_pid.items() if pid != os.getpid()}
            if commands:
                largest = max(commands, key=lambda pid: commands[pid])
                os.kill(largest, signal.SIGKILL)
                self._log.write("system", f"memory limit reached: process {largest} was killed", largest)

    async def _watch_disk(self) -> None:
        while True:
            started = time.monotonic()
            self._disk_bytes = await asyncio.to_thread(self._disk_use)
            full = self._disk_bytes > self._settings.disk_bytes
            if full:
                self._table.kill_all()
                if not self.disk_full:
                    self._log.write("system", "disk limit reached: every command was killed")
            self.disk_full = full
            # A sandbox with a million files must not make its own watch a burden.
            await asyncio.sleep(max(_DISK_INTERVAL_S, 20 * (time.monotonic() - started)))

    def _disk_use(self) -> int:
        """Bytes on disk below the sandbox's own folders; what the host mounted among them, Python say, is not its own."""
        total = 0
        mounted = _mount_points()
        pending = [str(self._paths.resolve(folder)) for folder in WRITABLE]
        while pending:
            try:
                entries = list(os.scandir(pending.pop()))
            except OSError:
                continue
            for entry in entries:
                try:
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.path not in mounted and entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                except OSError:
                    continue
        return total


def _processes() -> _Use:
    """CPU seconds and private memory of every process in this process namespace; ended children count by their parents."""
    ticks = 0
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
        private = (line.split()[1] for line in status.splitlines() if line.startswith(("RssAnon:", "RssShmem:")))
        sizes[int(folder.name)] = sum(map(int, private)) * 1024
    return _Use(ticks / os.sysconf("SC_CLK_TCK"), sizes)


def _mount_points() -> set[str]:
    if sys.platform != "linux":
        return set()
    return {line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()}


def _cpu_count() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1

"""The limits that no cgroup and no file system holds for a sandbox."""

import asyncio
import contextlib
import os
import signal
import time

from .disk_usage import DiskUsage
from .limit_notifier import LimitNotifier
from .log_writer import SandboxLog
from .process_table import ProcessTable
from .process_tree import with_descendants
from .usage_meter import UsageMeter, count_shared_memory_once, measure_processes
from .wire import SandboxSettings

# The kernel counts the processes that built the sandbox, too, and they cannot be seen from inside.
_UNSEEN = 2
_LOOK_S = 0.25
_DISK_INTERVAL_S = 5.0
# So much less room on the file system, bytes or files, and the sandbox's use is counted at once.
_NEWS_BYTES = 64 << 20
_NEWS_FILES = 10_000


class LimitEnforcer:
    """Kills the largest process above the memory limit, and every command that grows above the limits on disk and files."""

    def __init__(
        self, settings: SandboxSettings, usage: UsageMeter, table: ProcessTable, log: SandboxLog, notifier: LimitNotifier
    ) -> None:
        self._settings = settings
        self._usage = usage
        self._table = table
        self._log = log
        self._notifier = notifier
        self._hiding: set[int] = set()
        self._last = DiskUsage()
        self.reached_storage_limit: str | None = None

    async def run(self) -> None:
        await asyncio.gather(self._watch_processes(), self._watch_disk())

    async def _watch_processes(self) -> None:
        """Where there are cgroups they hold both limits, and count how often."""
        crowded = False
        while self._settings.watch_memory and self._usage.own_processes:
            await asyncio.sleep(_LOOK_S)
            use = measure_processes()
            if use.bytes > self._settings.memory_bytes:
                self._hold_memory(count_shared_memory_once(use.bytes_by_pid))
            now_crowded = self._settings.per_sandbox_limits and use.threads >= self._settings.processes - _UNSEEN
            if now_crowded and not crowded:
                self._notifier.notify("processes")
                self._log.write("system", "process limit reached: no more can be started")
            crowded = now_crowded

    def _hold_memory(self, sizes: dict[int, int]) -> None:
        commands = {pid: size for pid, size in sizes.items() if pid != os.getpid()}
        if not commands or sum(sizes.values()) <= self._settings.memory_bytes:
            return
        largest = max(commands, key=lambda pid: commands[pid])
        with contextlib.suppress(ProcessLookupError):
            os.kill(largest, signal.SIGKILL)
        self._notifier.notify("memory")
        self._log.write("system", f"memory limit reached: process {largest} was killed", largest)

    async def _watch_disk(self) -> None:
        while True:
            started = time.monotonic()
            room = self._usage.free()
            await self._look_at_disk()
            # A sandbox with a million files must not make its own watch a burden.
            took = time.monotonic() - started
            await asyncio.sleep(took * (4 if self.reached_storage_limit else 1))
            for _ in range(max(1, round(max(_DISK_INTERVAL_S, 20 * took) / _LOOK_S))):
                await asyncio.sleep(_LOOK_S)
                if self.reached_storage_limit or self._hiding or self._shrinking(room):
                    break

    def _shrinking(self, room: tuple[int, int]) -> bool:
        space, files = self._usage.free()
        return room[0] - space > _NEWS_BYTES or room[1] - files > _NEWS_FILES

    async def _look_at_disk(self) -> None:
        # To see that a limit is reached takes no longer than counting up to it; to see something grow beyond, all of it.
        limits = DiskUsage(self._settings.disk_bytes, self._settings.files)
        use = await asyncio.to_thread(self._usage.disk, None if self.reached_storage_limit else limits)
        limit = "disk" if use.bytes > self._settings.disk_bytes else "files" if use.files > self._settings.files else None
        # What grows no more may go on, so that something can be removed.
        if limit and (self.reached_storage_limit is None or use.bytes > self._last.bytes or use.files > self._last.files):
            self._table.kill_all()
            self._notifier.notify(limit)
            if self.reached_storage_limit != limit:
                self._log.write("system", f"{limit} limit reached: every command was killed")
        self.reached_storage_limit, self._last = limit, use
        # The agent, a service, hides so that nobody reads its token. Any process is hidden for a moment between its fork and
        # its exec, so the second time counts.
        use.hiding -= with_descendants(self._table.services())
        for pid in self._hiding & use.hiding:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            self._log.write("system", f"process {pid} hid its open files from the disk limit and was killed", pid)
        self._hiding = use.hiding

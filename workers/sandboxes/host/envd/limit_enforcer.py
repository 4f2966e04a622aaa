"""Enforce the limits that no cgroup and no file system enforces for a sandbox."""

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
from .wire import LimitName, SandboxSettings

# The kernel also counts the processes that built the sandbox. They are not visible from inside.
_INVISIBLE_PROCESSES = 2
_CHECK_INTERVAL_S = 0.25
_DISK_INTERVAL_S = 5.0
# When the file system loses this many bytes or files, the sandbox's use is counted at once.
_LOST_BYTES = 64 << 20
_LOST_FILES = 10_000


class LimitEnforcer:
    """Kills the largest process above the memory limit, and all commands above a storage limit.

    `reached_storage_limit` is `disk` or `files` while that limit is reached.
    """

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
        self.reached_storage_limit: LimitName | None = None

    async def run(self) -> None:
        await asyncio.gather(self._watch_processes(), self._watch_disk())

    async def _watch_processes(self) -> None:
        """Enforce the limit on memory, and report the limit on processes.

        Where there are cgroups, they do both.
        """
        was_reached = False
        while self._settings.watch_memory and self._usage.own_processes:
            await asyncio.sleep(_CHECK_INTERVAL_S)
            use = measure_processes()
            if use.bytes > self._settings.memory_bytes:
                self._enforce_memory(count_shared_memory_once(use.bytes_by_pid))
            is_reached = self._settings.per_sandbox_limits and use.threads >= self._settings.processes - _INVISIBLE_PROCESSES
            if is_reached and not was_reached:
                self._notifier.notify("processes")
                self._log.write("system", "process limit reached: no more can be started")
            was_reached = is_reached

    def _enforce_memory(self, sizes: dict[int, int]) -> None:
        commands = {pid: size for pid, size in sizes.items() if pid != os.getpid()}
        if not commands or sum(sizes.values()) <= self._settings.memory_bytes:
            return
        largest = max(commands, key=lambda pid: commands[pid])
        self._table.memory_kills.add()
        with contextlib.suppress(ProcessLookupError):
            os.kill(largest, signal.SIGKILL)
        self._notifier.notify("memory")
        self._log.write("system", f"memory limit reached: process {largest} was killed", largest)

    async def _watch_disk(self) -> None:
        while True:
            started = time.monotonic()
            free = self._usage.free()
            await self._enforce_storage()
            # A sandbox with a million files must not keep envd busy with counting.
            seconds = time.monotonic() - started
            await asyncio.sleep(seconds * (4 if self.reached_storage_limit else 1))
            for _ in range(max(1, round(max(_DISK_INTERVAL_S, 20 * seconds) / _CHECK_INTERVAL_S))):
                await asyncio.sleep(_CHECK_INTERVAL_S)
                if self.reached_storage_limit or self._hiding or self._lost_space(free):
                    break

    def _lost_space(self, before: tuple[int, int]) -> bool:
        free_bytes, free_files = self._usage.free()
        return before[0] - free_bytes > _LOST_BYTES or before[1] - free_files > _LOST_FILES

    async def _enforce_storage(self) -> None:
        # Counting up to the limits shows whether one is reached. Only a full count shows growth.
        limits = DiskUsage(self._settings.disk_bytes, self._settings.files)
        use = await asyncio.to_thread(self._usage.disk, None if self.reached_storage_limit else limits)
        limit = self._exceeded_limit(use)
        # A command that no longer grows may continue, so that files can be removed.
        if limit and (self.reached_storage_limit is None or use.bytes > self._last.bytes or use.files > self._last.files):
            self._table.kill_all()
            self._notifier.notify(limit)
            if self.reached_storage_limit != limit:
                self._log.write("system", f"{limit} limit reached: every command was killed")
        self.reached_storage_limit, self._last = limit, use
        # The agent, a service, hides so that no other process reads its token. Others are hidden
        # for a moment between fork and exec. So a process is killed only if it hides at two checks.
        use.hiding -= with_descendants(self._table.services())
        for pid in self._hiding & use.hiding:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            self._log.write("system", f"process {pid} hid its open files from the disk limit and was killed", pid)
        self._hiding = use.hiding

    def _exceeded_limit(self, use: DiskUsage) -> LimitName | None:
        if use.bytes > self._settings.disk_bytes:
            return "disk"
        return "files" if use.files > self._settings.files else None

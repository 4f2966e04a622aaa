"""All sandboxes of a host: create, list, extend and end them, and restore them after a restart."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from starlette.types import ASGIApp

from workers.sandboxes.host.config import SandboxLimits
from workers.sandboxes.host.folder_remover import FolderRemover
from workers.sandboxes.host.gateway import Gateway
from workers.sandboxes.host.isolation.cgroups import Cgroups
from workers.sandboxes.host.limit_hits import LimitHitLog, RecordedLimitHit
from workers.sandboxes.host.request_bodies import CreateRequest
from workers.sandboxes.host.running_sandbox import RunningSandbox, SandboxGoneError
from workers.sandboxes.host.sandbox_record import STATE_FILE, SandboxRecord, new_sandbox_id, new_token
from workers.sandboxes.host.sandbox_starter import SandboxStarter

_LOG = logging.getLogger(__name__)
_SWEEP_S = 0.5
_RESTART_PAUSE_S = 1.0
_SMALLEST_JUMP = timedelta(seconds=5)
_GRACE = timedelta(seconds=60)
_LONGEST_START = timedelta(minutes=5)
_PARALLEL_BOOTS = 4
_HEARTBEAT = "alive"


class NoSandboxError(LookupError):
    """No live sandbox has that id."""


class KeyConflictError(Exception):
    """The idempotency key was used for another request."""


class SandboxManager:
    """Sandboxes survive a restart of the host: files and tokens stay, processes do not."""

    def __init__(self, home: Path, starter: SandboxStarter, cgroups: Cgroups | None, limits: SandboxLimits) -> None:
        self.isolation = starter.isolation
        self.limits = limits
        self._home = home
        self._folder = home / "sandboxes"
        self._cgroups = cgroups
        self._remover = FolderRemover(home / "trash")
        self._peers: ASGIApp | None = None
        self._hits: dict[str, LimitHitLog] = {}
        self._gateways: dict[str, Gateway] = {}
        self._records: dict[str, SandboxRecord] = {}
        self._running: dict[str, asyncio.Future[RunningSandbox]] = {}
        self._supervisors: dict[str, asyncio.Task[None]] = {}
        self._creating: dict[str, tuple[str, asyncio.Task[SandboxRecord]]] = {}
        self._starter = starter
        self._boots = asyncio.Semaphore(_PARALLEL_BOOTS)

    async def run(self, peers: ASGIApp | None) -> None:
        """Restore the sandboxes of an earlier host, then end those that expire, until cancelled.

        `peers` is the application that each sandbox's gateway serves.
        """
        self._peers = peers
        self._starter.open()
        self._restore()
        previous = datetime.now(UTC)
        try:
            while True:
                await asyncio.sleep(_SWEEP_S)
                await asyncio.to_thread(self._update_limit_hits)
                now = datetime.now(UTC)
                self._allow_for_clock_jump(now, now - previous - timedelta(seconds=_SWEEP_S))
                for sandbox_id in [record.sandbox_id for record in self._records.values() if record.end_at <= now]:
                    _LOG.info("sandbox %s expired", sandbox_id)
                    with contextlib.suppress(NoSandboxError):
                        await self.kill(sandbox_id)
                (self._home / _HEARTBEAT).touch()
                previous = datetime.now(UTC)
        finally:
            await asyncio.gather(*(self._stop(sandbox_id) for sandbox_id in list(self._records)))
            await self._starter.close()

    def _allow_for_clock_jump(self, now: datetime, jump: timedelta) -> None:
        """Move the ends of all sandboxes if the machine slept, or its clock was set.

        The time that this host could not run does not count. After it, every sandbox has a grace
        period, in which its owner can extend it.
        """
        if abs(jump) <= _SMALLEST_JUMP:
            return
        _LOG.warning("the clock jumped by %.0f s; the sandboxes end as much later", jump.total_seconds())
        for sandbox_id, record in list(self._records.items()):
            moved = replace(record, end_at=max(record.end_at + jump, now + _GRACE))
            self._records[sandbox_id] = moved
            with contextlib.suppress(OSError):
                moved.save(self.folder(sandbox_id))

    def _update_limit_hits(self) -> None:
        for sandbox_id, hits in list(self._hits.items()):
            if self._cgroups is not None:
                hits.add_kernel_counts(self._cgroups, sandbox_id)
            hits.save()

    def limit_hits(self, sandbox_id: str) -> list[RecordedLimitHit]:
        """Return the limits that the sandbox reached, the latest first. Raise NoSandboxError."""
        self.get(sandbox_id)
        return self._hits[sandbox_id].latest_first()

    def add_limit_hit(self, sandbox_id: str, limit: str) -> None:
        """Store that a client enforced a limit. Raise NoSandboxError."""
        self.get(sandbox_id)
        self._hits[sandbox_id].add(limit)

    def list(self) -> list[SandboxRecord]:
        return list(self._records.values())

    def get(self, sandbox_id: str) -> SandboxRecord:
        try:
            return self._records[sandbox_id]
        except KeyError:
            raise NoSandboxError(sandbox_id) from None

    def folder(self, sandbox_id: str) -> Path:
        return self._folder / sandbox_id

    async def running_sandbox(self, sandbox_id: str) -> RunningSandbox:
        """Return the running sandbox. Wait while it boots.

        Raises:
            NoSandboxError: no live sandbox has that id.
            SandboxGoneError: the sandbox ended or did not start.
        """
        self.get(sandbox_id)
        try:
            return await asyncio.shield(self._running[sandbox_id])
        except (KeyError, OSError, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and not self._boot_cancelled(sandbox_id):
                raise
            raise SandboxGoneError from error

    def _boot_cancelled(self, sandbox_id: str) -> bool:
        future = self._running.get(sandbox_id)
        return future is None or future.cancelled()

    async def create(self, request: CreateRequest) -> SandboxRecord:
        """Start a sandbox. If a live sandbox has the same key, return that one.

        Raises:
            KeyConflictError: the key belongs to a different request.
            OSError: the sandbox did not start.
        """
        if request.key is None:
            return await self._create(request)
        for record in self._records.values():
            if record.key == request.key:
                if record.request_digest != request.digest:
                    raise KeyConflictError(request.key)
                await self.running_sandbox(record.sandbox_id)
                return record
        digest, task = self._creating.get(request.key, (request.digest, None))
        if digest != request.digest:
            raise KeyConflictError(request.key)
        if task is None:
            task = asyncio.create_task(self._create(request))
            self._creating[request.key] = (digest, task)
            task.add_done_callback(lambda _: self._creating.pop(request.key or "", None))
        return await asyncio.shield(task)

    async def _create(self, request: CreateRequest) -> SandboxRecord:
        now = datetime.now(UTC)
        used_numbers = {record.number for record in self._records.values()}
        record = SandboxRecord(
            sandbox_id=new_sandbox_id(),
            number=next(number for number in range(1, len(used_numbers) + 2) if number not in used_numbers),
            template=request.template,
            metadata=request.metadata,
            envs=request.envs,
            access_token=new_token(),
            traffic_token=None if request.public else new_token(),
            started_at=now,
            end_at=now + _LONGEST_START,
            key=request.key,
            request_digest=request.digest,
        )
        self._records[record.sandbox_id] = record
        folder = self.folder(record.sandbox_id)
        folder.mkdir(mode=0o700, parents=True)
        self._start(record.sandbox_id)
        try:
            await self.running_sandbox(record.sandbox_id)
        except SandboxGoneError as error:
            await self.kill(record.sandbox_id)
            raise OSError("the sandbox did not start") from error
        # Its time begins when it runs. The template process may have been importing until now.
        now = datetime.now(UTC)
        record = replace(record, started_at=now, end_at=now + timedelta(seconds=request.timeout_s))
        self._records[record.sandbox_id] = record
        record.save(folder)
        return record

    def extend(self, sandbox_id: str, seconds: float, *, only_longer: bool = False) -> SandboxRecord:
        """Let the sandbox end `seconds` from now. With `only_longer`, never let it end sooner."""
        record = self.get(sandbox_id)
        changed = record.ending_in(seconds)
        if only_longer and changed.end_at <= record.end_at:
            return record
        self._records[sandbox_id] = changed
        changed.save(self.folder(sandbox_id))
        return changed

    async def kill(self, sandbox_id: str) -> None:
        """End a sandbox and remove its folder. Raise NoSandboxError."""
        self.get(sandbox_id)
        del self._records[sandbox_id]
        await self._stop(sandbox_id)
        # Without this file, a restart after a crash does not restore the sandbox.
        (self.folder(sandbox_id) / STATE_FILE).unlink(missing_ok=True)
        self._remover.remove_later(self.folder(sandbox_id))

    async def _stop(self, sandbox_id: str) -> None:
        supervisor = self._supervisors.pop(sandbox_id, None)
        if supervisor is not None:
            supervisor.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await supervisor
        running = self._running.pop(sandbox_id, None)
        if running is not None:
            running.cancel()
        if self._cgroups is not None:
            await asyncio.to_thread(self._cgroups.remove, sandbox_id)
        if gateway := self._gateways.pop(sandbox_id, None):
            await gateway.close()
        self._hits.pop(sandbox_id, None)

    def _restore(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._remover.remove_leftovers()
        now = datetime.now(UTC)
        for folder in self._folder.iterdir():
            try:
                record = SandboxRecord.load(folder)
            except (OSError, ValueError):
                self._remover.remove_later(folder)
                continue
            # The time that the host was down does not count.
            record = replace(record, end_at=record.end_at + self._downtime(now, record.started_at))
            record.save(folder)
            self._records[record.sandbox_id] = record
            self._start(record.sandbox_id)
        (self._home / _HEARTBEAT).touch()
        if self._records:
            _LOG.info("%d sandboxes restored", len(self._records))

    def _downtime(self, now: datetime, started_at: datetime) -> timedelta:
        try:
            last_alive = datetime.fromtimestamp((self._home / _HEARTBEAT).stat().st_mtime, UTC)
        except OSError:
            return timedelta(0)
        return max(timedelta(0), now - max(last_alive, started_at))

    def _start(self, sandbox_id: str) -> None:
        self._hits[sandbox_id] = LimitHitLog(self.folder(sandbox_id))
        if self._peers is not None:
            self._gateways[sandbox_id] = Gateway(self._peers)
            self._gateways[sandbox_id].open(self.folder(sandbox_id))
        self._running[sandbox_id] = asyncio.get_running_loop().create_future()
        self._supervisors[sandbox_id] = asyncio.create_task(self._supervise(sandbox_id))

    async def _supervise(self, sandbox_id: str) -> None:
        """Boot the sandbox, and again each time its first process ends. Its files stay."""
        sandbox: RunningSandbox | None = None
        try:
            while True:
                started = time.monotonic()
                async with self._boots:
                    sandbox = await RunningSandbox.boot(
                        self._records[sandbox_id],
                        self.folder(sandbox_id),
                        self._starter,
                        self._cgroups,
                        self.limits,
                        self._hits[sandbox_id].add,
                    )
                _LOG.info("sandbox %s started in %.2f s", sandbox_id, time.monotonic() - started)
                self._running[sandbox_id].set_result(sandbox)
                await sandbox.wait()
                self._running[sandbox_id] = asyncio.get_running_loop().create_future()
                _LOG.warning("sandbox %s lost its first process and is restarted", sandbox_id)
                await sandbox.stop()
                await asyncio.sleep(_RESTART_PAUSE_S)
        except OSError as error:
            _LOG.error("sandbox %s does not start: %s", sandbox_id, error.strerror)
            self._running[sandbox_id].set_exception(error)
        finally:
            if sandbox is not None:
                await sandbox.stop()


def matches(record: SandboxRecord, metadata: Mapping[str, str]) -> bool:
    return all(record.metadata.get(name) == value for name, value in metadata.items())

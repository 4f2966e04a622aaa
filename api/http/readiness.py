"""Whether the service can do its work: a real call to each part, bounded in time.

The answer is kept for two seconds, so that many probes cost no more than one.
"""

import asyncio
import time
from collections.abc import Awaitable
from typing import TypeVar

import anyio.to_thread
import redis
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from api.domain.errors import DomainError
from api.domain.sandboxes import SandboxError, SandboxProvider
from api.runtime.transactions import UseCaseRunner
from api.schemas.operations import BrokerState, DatabaseState, ProviderState, Readiness, StepsState
from api.settings import Settings
from api.store import heartbeats
from api.store.schema import is_known, newest_revision

T = TypeVar("T")
# A part that is frozen counts as down after this time.
_CHECK_TIMEOUT_S = 5.0
_KEPT_S = 2.0
# Sweeps that may be missed, and the time of a step in which every thread of a worker is busy.
_SWEEPS_MISSED = 2
_LONGEST_STEP_S = 20.0


class ReadinessChecker:
    """Checks all parts. One check runs at a time."""

    def __init__(self, settings: Settings, use_cases: UseCaseRunner, provider: SandboxProvider) -> None:
        self._settings = settings
        self._use_cases = use_cases
        self._provider = provider
        self._lock = asyncio.Lock()
        self._last: tuple[float, Readiness] | None = None

    @property
    def last(self) -> Readiness | None:
        """The result of the last check, None before the first one."""
        return None if self._last is None else self._last[1]

    async def check(self) -> Readiness:
        async with self._lock:
            if self._last is not None and time.monotonic() - self._last[0] < _KEPT_S:
                return self._last[1]
            found = await self._check()
            self._last = (time.monotonic(), found)
            return found

    async def _check(self) -> Readiness:
        database, broker, steps, provider = await asyncio.gather(
            self._database(), self._broker(), self._steps(), self._sandboxes()
        )
        ready = database.ok and broker.ok and steps.ok and provider.ok
        return Readiness(ready=ready, database=database, broker=broker, steps=steps, sandboxes=provider)

    async def _database(self) -> DatabaseState:
        try:
            query = text("SELECT version_num FROM alembic_version")
            current = await _bounded(self._use_cases.run(lambda uow: uow.session.execute(query).scalar()))
        except (SQLAlchemyError, DomainError, TimeoutError):
            return DatabaseState(
                ok=False, detail="The database cannot be reached, or has no tables. Start PostgreSQL; see postgres.log."
            )
        head = newest_revision()
        if current is not None and not is_known(current):
            # Migrations only add what an older release does not know. So it serves on.
            detail = "A newer release has migrated the database. This one serves until it is replaced."
            return DatabaseState(ok=True, migration=current, expected_migration=head, detail=detail)
        if current != head:
            detail = "The database has the tables of another version. Run `flow-nexus migrate`."
            return DatabaseState(ok=False, migration=current, expected_migration=head, detail=detail)
        return DatabaseState(ok=True, migration=current, expected_migration=head)

    async def _broker(self) -> BrokerState:
        detail = "Redis cannot be reached. Requests are accepted, and their work waits. Start Redis; see redis.log."
        try:
            is_up = await _bounded(anyio.to_thread.run_sync(self._ping, abandon_on_cancel=True))
        except (redis.RedisError, TimeoutError):
            return BrokerState(ok=False, detail=detail)
        return BrokerState(ok=is_up, detail=None if is_up else detail)

    def _ping(self) -> bool:
        client = redis.Redis.from_url(self._settings.redis_url, socket_timeout=1, socket_connect_timeout=1)
        try:
            return bool(client.ping())
        finally:
            client.close()

    async def _steps(self) -> StepsState:
        """Check that a Celery worker has taken a step lately. Beat asks for one often."""
        allowed_s = _SWEEPS_MISSED * self._settings.sweep_interval_s + _LONGEST_STEP_S
        remedy = "Start a Celery worker and beat; see worker.log and beat.log."
        try:
            age_s = await _bounded(self._use_cases.run(lambda uow: heartbeats.age_s(uow.session)))
        except (SQLAlchemyError, DomainError, TimeoutError):
            return StepsState(ok=False, detail="Not known while the database cannot be reached.")
        if age_s is None:
            return StepsState(ok=False, detail=f"No Celery worker has taken a step yet. {remedy}")
        if age_s > allowed_s:
            detail = f"No Celery worker has taken a step for {age_s:.0f} s. {remedy}"
            return StepsState(ok=False, seconds_since_last=round(age_s, 1), detail=detail)
        return StepsState(ok=True, seconds_since_last=round(age_s, 1))

    async def _sandboxes(self) -> ProviderState:
        try:
            status = await _bounded(self._provider.status())
        except (SandboxError, TimeoutError):
            return ProviderState(ok=False, warning=_NO_PROVIDER)
        warning = status.warning if status.ok else f"{_NO_PROVIDER} {status.warning or ''}".strip()
        return ProviderState(ok=status.ok, kind=status.kind, isolation=status.isolation, warning=warning)


_NO_PROVIDER = "The sandbox provider cannot be reached. Start it (see sandboxes.log), or check E2B_API_URL and E2B_API_KEY."


async def _bounded(call: Awaitable[T]) -> T:
    async with asyncio.timeout(_CHECK_TIMEOUT_S):
        return await call

"""What is written down beside the requests, many lines at a time: refusals for the audit log, and which keys were used."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from api.runtime.transactions import UseCaseRunner
from api.services import audit, principals
from api.services.audit import Entry
from api.store.database import UnitOfWork

log = logging.getLogger(__name__)
_MOST_LINES = 20_000
_BATCH = 500
_PAUSE_S = 0.1
_RETRY_S = 1.0
_LAST_CHANCE_S = 3.0
_USED_EVERY_S = 60.0


class AuditWriter:
    """Lines wait in memory for at most a moment; while the database is away they are kept, up to a limit.

    Successes never depend on it: their lines are part of the transactions that make them so.
    """

    def __init__(self, work: UseCaseRunner) -> None:
        self._work = work
        self._lines: deque[dict[str, Any]] = deque()
        self._used: set[str] = set()
        self._noted: dict[str, float] = {}
        self._bell = asyncio.Event()
        self._dropped = 0

    def record(self, entry: Entry, status: int) -> None:
        """Have the log say that this request ended with `status`."""
        if len(self._lines) >= _MOST_LINES:
            self._dropped += 1
            return
        self._lines.append(audit.values(entry, status, at=datetime.now(UTC)))
        self._bell.set()

    @property
    def waiting(self) -> int:
        """Lines that are not in the database yet."""
        return len(self._lines)

    def used(self, key_id: str) -> None:
        now = time.monotonic()
        if now - self._noted.get(key_id, -_USED_EVERY_S) >= _USED_EVERY_S:
            self._noted[key_id] = now
            self._used.add(key_id)
            self._bell.set()

    async def run(self) -> None:
        while True:
            await self._bell.wait()
            self._bell.clear()
            await asyncio.sleep(_PAUSE_S if await self._flush() else _RETRY_S)
            if self._lines or self._used:
                self._bell.set()

    async def aclose(self) -> None:
        """Write what still waits, if the database takes it soon."""
        try:
            async with asyncio.timeout(_LAST_CHANCE_S):
                while (self._lines or self._used) and await self._flush():
                    pass
        except TimeoutError:
            pass
        if self._lines or self._dropped:
            log.error("%d refusals are missing from the audit log", len(self._lines) + self._dropped)

    async def _flush(self) -> bool:
        lines = list(islice(self._lines, _BATCH))
        used, self._used = self._used, set()
        try:
            if lines:
                await self._work(lambda uow: audit.write_all(uow.session, lines))
            if used:
                await self._work(_noting(used))
        except SQLAlchemyError as error:
            log.warning("the audit log waits for the database: %s", type(error).__name__)
            self._used |= used
            return False
        for _ in lines:
            self._lines.popleft()
        if self._dropped and not self._lines:
            log.error(
                "%d refusals are missing from the audit log: they came faster than the database takes them", self._dropped
            )
            self._dropped = 0
        return True


def _noting(used: set[str]) -> Callable[[UnitOfWork], None]:
    return lambda uow: principals.note_use(uow.session, used)

"""Write refusals to the audit log and the last use of keys, in batches beside the requests."""

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
from api.services.audit import AuditLine
from api.store.database import UnitOfWork

log = logging.getLogger(__name__)
_MOST_LINES = 20_000
_BATCH = 500
_PAUSE_S = 0.1
_RETRY_S = 1.0
_LAST_CHANCE_S = 3.0
_USED_EVERY_S = 60.0


class AuditWriter:
    """Queue lines in memory and write them soon. While the database is away, keep them up to a
    limit.

    The transaction of a use case writes its own success. So no success depends on this queue.
    """

    def __init__(self, use_cases: UseCaseRunner) -> None:
        self._use_cases = use_cases
        self._lines: deque[dict[str, Any]] = deque()
        self._used_keys: set[str] = set()
        self._noted: dict[str, float] = {}
        self._pending = asyncio.Event()
        self._dropped = 0

    def record(self, request_record: AuditLine, status: int) -> None:
        """Queue a line: the request ended with `status`."""
        if len(self._lines) >= _MOST_LINES:
            self._dropped += 1
            return
        self._lines.append(audit.values(request_record, status, at=datetime.now(UTC)))
        self._pending.set()

    @property
    def waiting(self) -> int:
        """Return the number of lines that are not in the database yet."""
        return len(self._lines)

    def note_key_use(self, key_id: str) -> None:
        """Queue that the key was used, at most once a minute for each key."""
        now = time.monotonic()
        if now - self._noted.get(key_id, -_USED_EVERY_S) >= _USED_EVERY_S:
            self._noted[key_id] = now
            self._used_keys.add(key_id)
            self._pending.set()

    async def run(self) -> None:
        while True:
            await self._pending.wait()
            self._pending.clear()
            await asyncio.sleep(_PAUSE_S if await self._flush() else _RETRY_S)
            if self._lines or self._used_keys:
                self._pending.set()

    async def aclose(self) -> None:
        """Write the queued lines, within three seconds."""
        try:
            async with asyncio.timeout(_LAST_CHANCE_S):
                while (self._lines or self._used_keys) and await self._flush():
                    pass
        except TimeoutError:
            pass
        if self._lines or self._dropped:
            log.error("%d refusals are missing from the audit log", len(self._lines) + self._dropped)

    async def _flush(self) -> bool:
        lines = list(islice(self._lines, _BATCH))
        used, self._used_keys = self._used_keys, set()
        try:
            if lines:
                await self._use_cases.run(lambda uow: audit.write_all(uow.session, lines))
            if used:
                await self._use_cases.run(_key_uses(used))
        except SQLAlchemyError as error:
            log.warning("the audit log waits for the database: %s", type(error).__name__)
            self._used_keys |= used
            return False
        for _ in lines:
            self._lines.popleft()
        if self._dropped and not self._lines:
            log.error(
                "%d refusals are missing from the audit log: they arrived faster than the database stores them", self._dropped
            )
            self._dropped = 0
        return True


def _key_uses(used: set[str]) -> Callable[[UnitOfWork], None]:
    return lambda uow: principals.note_use(uow.session, used)

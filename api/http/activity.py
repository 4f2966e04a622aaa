"""Record that a cluster is in use for as long as a request moves bytes or runs code."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator

from sqlalchemy.exc import SQLAlchemyError

from api.runtime.transactions import UseCaseRunner
from api.services import sandboxes

log = logging.getLogger(__name__)
_EVERY_S = sandboxes.NOTE_CALL_EVERY.total_seconds()


class ClusterActivity:
    """The use of one cluster by one request.

    The idle time of the cluster then counts from the last byte or the last moment of a run.
    """

    def __init__(self, use_cases: UseCaseRunner, cluster_id: str) -> None:
        self._use_cases = use_cases
        self._cluster_id = cluster_id
        self._next = time.monotonic() + _EVERY_S

    async def after_each(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Yield the chunks. Record the use after a chunk, but not after each one of many."""
        async for chunk in chunks:
            yield chunk
            if time.monotonic() >= self._next:
                await self._record()

    @contextlib.asynccontextmanager
    async def lasting(self) -> AsyncIterator[None]:
        """Record the use again and again until the block ends."""
        recording = asyncio.create_task(self._record_again())
        try:
            yield
        finally:
            recording.cancel()
            await asyncio.wait([recording])

    async def _record_again(self) -> None:
        while True:
            await asyncio.sleep(_EVERY_S)
            await self._record()

    async def _record(self) -> None:
        """Record the use. The request itself must not fail because of this."""
        self._next = time.monotonic() + _EVERY_S
        try:
            await self._use_cases.run(lambda uow: sandboxes.note_call(uow.session, self._cluster_id))
        except SQLAlchemyError as error:
            log.warning("%s: its use could not be recorded: %s", self._cluster_id, type(error).__name__)

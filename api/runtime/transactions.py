"""Use cases in threads, each in one transaction."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for_threads
from contextvars import copy_context
from typing import Generic, TypeVar

from sqlalchemy.exc import TimeoutError as SilentDatabaseError

from api.services import audit
from api.services.principals import Principal
from api.store.database import Database, UnitOfWork

T = TypeVar("T")


class _PendingUseCase(Generic[T]):
    """A use case on its way through the threads."""

    def __init__(self, use_case: Callable[[UnitOfWork], T], by: Principal | None) -> None:
        self.use_case = use_case
        self.by = by
        self.since = time.monotonic()
        self.begun = False
        self.future: Future[T]


class UseCaseRunner:
    """Runs a use case in a thread, in one transaction that is committed before anything is answered.

    Never more at once than the pool has connections: a crowd waits here, without a thread, instead of timing out in the pool.
    SilentDatabaseError when a use case takes longer than `within_s`, or none before it ends for so long: a database that
    is frozen, not dead, would hold whoever asks, as its statement timeout is frozen too and a Unix socket has none. A use case
    that was given up may still be committed when the database goes on, as one whose answer was lost on the way.
    """

    def __init__(self, database: Database, at_once: int, within_s: float) -> None:
        self._database = database
        self._within_s = within_s
        self._ended = time.monotonic()
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="work")

    async def __call__(self, use_case: Callable[[UnitOfWork], T], by: Principal | None = None) -> T:
        """With `by`, the audit log says in the same transaction that this caller did it, and to what."""
        piece = self._submit(use_case, by)
        running = asyncio.wrap_future(piece.future)
        try:
            while not running.done():
                await asyncio.wait({running}, timeout=self._patience(piece))
            return running.result()
        finally:
            running.cancel()

    def blocking(self, use_case: Callable[[UnitOfWork], T]) -> T:
        """The same, for whoever has a thread of its own."""
        piece = self._submit(use_case, None)
        try:
            while not piece.future.done():
                wait_for_threads([piece.future], timeout=self._patience(piece))
            return piece.future.result()
        finally:
            piece.future.cancel()

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _patience(self, piece: _PendingUseCase[T]) -> float:
        since = piece.since if piece.begun else max(piece.since, self._ended)
        left = since + self._within_s - time.monotonic()
        if left <= 0:
            raise SilentDatabaseError("the database does not answer")
        return left

    def _submit(self, use_case: Callable[[UnitOfWork], T], by: Principal | None) -> _PendingUseCase[T]:
        piece = _PendingUseCase(use_case, by)
        piece.future = self._threads.submit(copy_context().run, self._run, piece)
        return piece

    def _run(self, piece: _PendingUseCase[T]) -> T:
        piece.since, piece.begun = time.monotonic(), True
        entry = piece.by.entry if piece.by else None
        try:
            with self._database.unit_of_work() as uow:
                result = piece.use_case(uow)
                if entry is not None:
                    audit.write(uow.session, entry, getattr(result, "id", None))
        finally:
            self._ended = time.monotonic()
        if entry is not None:
            entry.recorded = entry.planned
        return result

"""Run use cases in threads, each in one transaction."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for_threads
from contextvars import copy_context
from typing import Any, Generic, TypeVar

from sqlalchemy.exc import TimeoutError as DatabaseTimeoutError

from api.services import audit
from api.services.principals import Principal
from api.store.database import Database, UnitOfWork

T = TypeVar("T")


class _PendingUseCase(Generic[T]):
    """A use case that waits for a thread or runs in one."""

    def __init__(self, use_case: Callable[[UnitOfWork], T], caller: Principal | None) -> None:
        self.use_case = use_case
        self.audit_record = caller.audit_record if caller else None
        self.since = time.monotonic()
        self.has_started = False
        self.future: Future[T]


class UseCaseRunner:
    """Run use cases in threads. Each has one transaction, which is committed before the answer.

    At most `at_once` use cases run at a time: as many as the pool has connections. The others wait
    here, without a thread. So they do not time out in the pool.

    A use case has `within_s` seconds, counted from its start. A use case that waits has `within_s`
    seconds too, counted from the last end of another one. These limits are for a frozen database:
    its statement timeout is frozen too, and a Unix socket has no timeout.

    `on_waiting` is called with 1 and -1 when a use case begins and ends to wait for a thread.
    """

    def __init__(self, database: Database, at_once: int, within_s: float) -> None:
        self._database = database
        self._within_s = within_s
        self._last_end = time.monotonic()
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="work")
        self._submitted: set[Future[Any]] = set()
        self.on_waiting: Callable[[int], None] = _ignore

    async def run(self, use_case: Callable[[UnitOfWork], T], caller: Principal | None = None) -> T:
        """Run the use case. With `caller`, the same transaction writes its line in the audit log.

        Raises:
            DatabaseTimeoutError: the time is over. The transaction may still be committed when the
                database continues.
        """
        pending = self._submit(use_case, caller)
        running = asyncio.wrap_future(pending.future)
        try:
            while not running.done():
                await asyncio.wait({running}, timeout=self._seconds_left(pending))
            return running.result()
        finally:
            running.cancel()

    def run_blocking(self, use_case: Callable[[UnitOfWork], T]) -> T:
        """Run the use case for a caller that has a thread of its own. Raises as `run` does."""
        pending = self._submit(use_case, None)
        try:
            while not pending.future.done():
                wait_for_threads([pending.future], timeout=self._seconds_left(pending))
            return pending.future.result()
        finally:
            pending.future.cancel()

    def close(self) -> None:
        """Wait at most `within_s` for the use cases that run, whose callers may be gone.

        Then each has returned its connection to the pool, and the pool can be disposed of.
        """
        self._threads.shutdown(wait=False, cancel_futures=True)
        wait_for_threads(set(self._submitted), timeout=self._within_s)

    def _seconds_left(self, pending: _PendingUseCase[T]) -> float:
        since = pending.since if pending.has_started else max(pending.since, self._last_end)
        left = since + self._within_s - time.monotonic()
        if left <= 0:
            raise DatabaseTimeoutError("the database does not answer")
        return left

    def _submit(self, use_case: Callable[[UnitOfWork], T], caller: Principal | None) -> _PendingUseCase[T]:
        pending = _PendingUseCase(use_case, caller)
        self.on_waiting(1)
        pending.future = self._threads.submit(copy_context().run, self._run_in_thread, pending)
        self._submitted.add(pending.future)
        pending.future.add_done_callback(self._forget)
        return pending

    def _forget(self, ended: Future[Any]) -> None:
        self._submitted.discard(ended)
        # Only a use case that still waits can be cancelled.
        if ended.cancelled():
            self.on_waiting(-1)

    def _run_in_thread(self, pending: _PendingUseCase[T]) -> T:
        self.on_waiting(-1)
        pending.since, pending.has_started = time.monotonic(), True
        record = pending.audit_record
        try:
            with self._database.unit_of_work() as uow:
                result = pending.use_case(uow)
                if record is not None:
                    audit.write(uow.session, record, getattr(result, "id", None))
        finally:
            self._last_end = time.monotonic()
        if record is not None:
            record.recorded = record.planned
        return result


def _ignore(_: int) -> None:
    return

"""Use cases in threads, each in one transaction."""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import anyio

from api.services import audit
from api.services.principals import Principal
from api.store.database import Database, UnitOfWork

T = TypeVar("T")


class Work:
    """Runs a use case in a thread, in one transaction that is committed before anything is answered.

    Never more at once than the pool has connections: a crowd waits here, without a thread, instead of timing out in the pool.
    """

    def __init__(self, database: Database, at_once: int) -> None:
        self._database = database
        self._limiter = anyio.CapacityLimiter(at_once)

    async def __call__(self, use_case: Callable[[UnitOfWork], T], by: Principal | None = None) -> T:
        """With `by`, the audit log says in the same transaction that this caller did it, and to what."""
        return await anyio.to_thread.run_sync(partial(self._run, use_case, by), limiter=self._limiter)

    def _run(self, use_case: Callable[[UnitOfWork], T], by: Principal | None) -> T:
        entry = by.entry if by else None
        with self._database.unit_of_work() as uow:
            result = use_case(uow)
            if entry is not None:
                audit.write(uow.session, entry, getattr(result, "id", None))
        if entry is not None:
            entry.recorded = entry.planned
        return result

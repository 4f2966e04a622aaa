"""What routes are given: units of work, the caller, and how long the caller is ready to wait."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, TypeVar

import anyio
from fastapi import Depends, Header, Query, Request

from api.domain.errors import FieldError, InvalidError
from api.domain.sandboxes import SandboxProvider
from api.listener import Listener
from api.services.pages import Cursor
from api.settings import Settings
from api.store.database import Database, UnitOfWork

T = TypeVar("T")
MAX_WAIT_S = 300
_WAIT = re.compile(r"(?:^|,)\s*wait\s*=\s*\"?(\d{1,6})\"?\s*(?:$|[,;])", re.IGNORECASE)
_KEY = re.compile(r"[\x21-\x7e]{1,255}")


class Work:
    """Runs a use case in a thread, in one transaction that is committed before anything is answered.

    Never more at once than the pool has connections: a crowd waits here, without a thread, instead of timing out in the pool.
    """

    def __init__(self, database: Database, at_once: int) -> None:
        self._database = database
        self._limiter = anyio.CapacityLimiter(at_once)

    async def __call__(self, use_case: Callable[[UnitOfWork], T]) -> T:
        return await anyio.to_thread.run_sync(partial(self._run, use_case), limiter=self._limiter)

    def _run(self, use_case: Callable[[UnitOfWork], T]) -> T:
        with self._database.unit_of_work() as uow:
            return use_case(uow)


@dataclass(frozen=True, slots=True)
class AppState:
    """Made when the app starts, shared by all requests."""

    settings: Settings
    work: Work
    listener: Listener
    provider: SandboxProvider
    streams: anyio.CapacityLimiter


def get_state(request: Request) -> AppState:
    state: AppState = request.app.state.flow_nexus
    return state


State = Annotated[AppState, Depends(get_state)]


@dataclass(frozen=True, slots=True)
class Paging:
    limit: int
    after: Cursor | None


def get_paging(
    limit: Annotated[int, Query(ge=1, le=100, description="items on a page")] = 20,
    cursor: Annotated[str | None, Query(max_length=500, description="`next_cursor` of the page before")] = None,
) -> Paging:
    return Paging(limit, Cursor.decode(cursor) if cursor else None)


Pages = Annotated[Paging, Depends(get_paging)]


def get_wait(
    prefer: Annotated[
        str | None,
        Header(
            alias="Prefer",
            description=f"`wait=N` (RFC 7240) holds the answer until it is done, at most N ≤ {MAX_WAIT_S} seconds",
        ),
    ] = None,
) -> int:
    """Seconds to wait; a preference that cannot be read is ignored, as RFC 7240 asks."""
    found = _WAIT.search(prefer or "")
    return min(int(found[1]), MAX_WAIT_S) if found else 0


Wait = Annotated[int, Depends(get_wait)]


def get_idempotency_key(
    idempotency_key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            description="the same key with the same body gives the same resource again; another body is a 409",
        ),
    ] = None,
) -> str | None:
    if idempotency_key is not None and not _KEY.fullmatch(idempotency_key):
        message = "Idempotency-Key has 1 to 255 visible ASCII characters"
        raise InvalidError("invalid_idempotency_key", message, errors=(FieldError("/Idempotency-Key", message),))
    return idempotency_key


IdempotencyKey = Annotated[str | None, Depends(get_idempotency_key)]

"""What routes are given: units of work, the caller, and how long the caller is ready to wait."""

import re
from dataclasses import dataclass
from typing import Annotated

import anyio
from fastapi import Depends, Header, Query, Request

from api.domain.errors import FieldError, InvalidError
from api.domain.sandboxes import SandboxProvider
from api.http.ratelimit import RateLimiter
from api.runtime.audit_writer import AuditWriter
from api.runtime.listener import Listener
from api.runtime.transactions import UseCaseRunner
from api.services.pages import Cursor
from api.settings import Settings

MAX_WAIT_S = 300
_WAIT = re.compile(r"(?:^|,)\s*wait\s*=\s*\"?(\d{1,6})\"?\s*(?:$|[,;])", re.IGNORECASE)
_KEY = re.compile(r"[\x21-\x7e]{1,255}")


@dataclass(frozen=True, slots=True)
class AppState:
    """Made when the app starts, shared by all requests."""

    settings: Settings
    work: UseCaseRunner
    listener: Listener
    provider: SandboxProvider
    streams: anyio.CapacityLimiter
    recorder: AuditWriter
    rates: RateLimiter


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

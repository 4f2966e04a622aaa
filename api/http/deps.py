"""Dependencies of the routes: the app's state, pages, `Prefer: wait` and `Idempotency-Key`.

They are coroutines, because FastAPI runs a plain function in a thread. They do not wait.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, TypeVar

import anyio
from fastapi import Depends, Header, Query, Request

from api.domain.errors import FieldError, InvalidError
from api.domain.sandboxes import SandboxProvider
from api.http.metrics.page import MetricsPage
from api.http.metrics.process import ProcessMetrics
from api.http.ratelimit import RateLimiter
from api.http.readiness import ReadinessChecker
from api.runtime.answer_cache import AnswerCache
from api.runtime.audit_writer import AuditWriter
from api.runtime.key_cache import KeyCache
from api.runtime.listener import Listener
from api.runtime.single_flight import SingleFlight
from api.runtime.transactions import UseCaseRunner
from api.services.pages import PageCursor, PageRequest
from api.services.principals import Principal
from api.settings import Settings
from api.store.database import UnitOfWork

T = TypeVar("T")
MAX_WAIT_S = 300
_WAIT = re.compile(r"(?:^|,)\s*wait\s*=\s*\"?(\d{1,6})\"?\s*(?:$|[,;])", re.IGNORECASE)
_KEY = re.compile(r"[\x21-\x7e]{1,255}")


@dataclass(frozen=True, slots=True)
class AppState:
    """The objects that all requests share. The app creates them when it starts."""

    settings: Settings
    use_cases: UseCaseRunner
    listener: Listener
    provider: SandboxProvider
    stream_limiter: anyio.CapacityLimiter
    audit_writer: AuditWriter
    rate_limiter: RateLimiter
    key_cache: KeyCache
    reads: SingleFlight
    answers: AnswerCache
    readiness: ReadinessChecker
    metrics: ProcessMetrics
    metrics_page: MetricsPage

    async def run(self, use_case: Callable[[UnitOfWork], T], caller: Principal | None = None) -> T:
        """Run a use case in one transaction. With `caller`, write its line in the audit log too."""
        return await self.use_cases.run(use_case, caller)


async def get_state(request: Request) -> AppState:
    state: AppState = request.app.state.flow_nexus
    return state


State = Annotated[AppState, Depends(get_state)]


async def get_paging(
    limit: Annotated[int, Query(ge=1, le=100, description="The number of items on a page.")] = 20,
    cursor: Annotated[str | None, Query(max_length=500, description="`next_cursor` of the previous page.")] = None,
) -> PageRequest:
    return PageRequest(limit, PageCursor.decode(cursor) if cursor else None)


# A cursor of a list whose items are numbered.
PositionCursor = Annotated[
    str | None, Query(alias="cursor", pattern=r"^\d{1,9}$", description="`next_cursor` of the previous page, a number.")
]
Pages = Annotated[PageRequest, Depends(get_paging)]


async def get_wait(
    request: Request,
    _prefer: Annotated[
        str | None,
        Header(
            alias="Prefer",
            description=f"`wait=N` (RFC 7240) holds the answer until the work is done, for at most N ≤ {MAX_WAIT_S} seconds.",
        ),
    ] = None,
) -> int:
    """Return the seconds to wait. An unreadable preference is ignored, as RFC 7240 demands.

    Several `Prefer` headers count as one that lists their preferences (RFC 7240, section 2).
    """
    match = _WAIT.search(",".join(request.headers.getlist("prefer")))
    return min(int(match[1]), MAX_WAIT_S) if match else 0


Wait = Annotated[int, Depends(get_wait)]


async def get_idempotency_key(
    idempotency_key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            description="The same key with the same body returns the same resource; another body is a 409.",
        ),
    ] = None,
) -> str | None:
    if idempotency_key is not None and not _KEY.fullmatch(idempotency_key):
        message = "Idempotency-Key has 1 to 255 visible ASCII characters"
        raise InvalidError("invalid_idempotency_key", message, errors=(FieldError("/Idempotency-Key", message),))
    return idempotency_key


IdempotencyKey = Annotated[str | None, Depends(get_idempotency_key)]

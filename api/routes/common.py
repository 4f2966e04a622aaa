"""What several routes do the same way: make a thing once, wait for it, answer with its place, document its errors."""

import hashlib
from collections.abc import Callable
from typing import Any

from fastapi import Request, Response
from pydantic import BaseModel
from sqlalchemy.orm import Session

from api.http.deps import AppState
from api.http.problems import MEDIA_TYPE
from api.services import idempotency
from api.services.principals import Principal
from api.store.database import UnitOfWork
from api.store.kinds import LeasedRowT, kind_of
from api.store.tables import ClusterRow

Loader = Callable[[Session, str, str], LeasedRowT]
_DESCRIPTIONS = {
    400: "The body is not valid JSON",
    401: "No valid API key",
    403: "The key lacks a scope, or the project has used up a quota",
    404: "Not there, or another project's",
    408: "The body did not arrive in time",
    409: "Conflict with the current state",
    413: "Too large",
    415: "Not application/json",
    422: "A field or parameter is wrong",
    429: "The key has asked too often; see Retry-After and RateLimit",
    502: "The sandbox's provider failed",
    503: "Temporarily unavailable; see Retry-After",
}
LOCATION = {"Location": {"description": "where the resource is", "schema": {"type": "string"}}}
WAITED = {
    **LOCATION,
    "Preference-Applied": {"description": "`wait=N` when `Prefer` was honoured", "schema": {"type": "string"}},
}


def errors(*statuses: int, body: bool = False) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's description of the problems that an operation can answer with."""
    documented = sorted({401, 403, 422, 429, 503, *statuses, *((400, 408, 413, 415) if body else ())})
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {"description": _DESCRIPTIONS[status], "content": {MEDIA_TYPE: {"schema": schema}}} for status in documented
    }


def answers(status: int, description: str, headers: dict[str, Any] | None = None) -> dict[int | str, dict[str, Any]]:
    return {status: {"description": description, **({"headers": headers} if headers else {})}}


async def create_idempotent(
    state: AppState,
    principal: Principal,
    request: Request,
    key: str | None,
    body: BaseModel | None,
    create: Callable[[UnitOfWork], LeasedRowT],
    load: Loader[LeasedRowT],
) -> LeasedRowT:
    """Make a resource, or find the one that this Idempotency-Key has made before."""
    asked = fingerprint(request, body)

    def use_case(uow: UnitOfWork) -> LeasedRowT:
        if key is None:
            return create(uow)
        found = idempotency.find(uow, principal.project_id, key, asked)
        if found is not None:
            return load(uow.session, principal.project_id, found)
        row = create(uow)
        idempotency.store(uow, principal.project_id, key, row.id)
        return row

    return await state.work(use_case, principal)


def fingerprint(request: Request, body: BaseModel | None) -> str:
    """What tells one request from another that came with the same Idempotency-Key."""
    asked = f"{request.method} {request.scope['path']}\n{body.model_dump_json() if body is not None else ''}"
    return hashlib.sha256(asked.encode()).hexdigest()


async def wait_until_settled(
    state: AppState,
    principal: Principal,
    request: Request,
    row: LeasedRowT,
    load: Loader[LeasedRowT],
    seconds: float,
    statuses: frozenset[str] | None = None,
) -> LeasedRowT:
    """Wait for the row to reach one of `statuses` (by default those in which its noun rests), or for the client to leave.

    Holds neither a thread nor a session while it waits.
    """
    rests = statuses or kind_of(type(row)).settled
    if seconds <= 0 or row.status in rests:
        return row
    cluster_id = row.id if isinstance(row, ClusterRow) else row.cluster_id

    async def look() -> LeasedRowT:
        return await state.work(lambda uow: load(uow.session, principal.project_id, row.id))

    return await state.listener.until(cluster_id, look, lambda found: found.status in rests, seconds, request.is_disconnected)


def set_location(response: Response, path: str, waited: int = 0) -> None:
    response.headers["Location"] = path
    if waited:
        response.headers["Preference-Applied"] = f"wait={waited}"

"""Who is calling, what the key allows, and what the audit log will say of it."""

from dataclasses import replace
from typing import Annotated, Any

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer, SecurityScopes

from api.domain.errors import ForbiddenError, UnauthorizedError
from api.domain.scopes import effective
from api.http.deps import AppState, State
from api.services import principals
from api.services.audit import Entry
from api.services.principals import Principal

_bearer = HTTPBearer(auto_error=False, scheme_name="ApiKey", description="An API key, as `flow-nexus keys create` prints it.")
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


async def authenticate(scopes: SecurityScopes, credentials: Credentials, state: State, request: Request) -> Principal:
    """A key of the project. UnauthorizedError without a valid key, RateLimitedError when it asks too often, ForbiddenError
    when it lacks a scope that the operation needs or belongs to one node only."""
    principal = await _holder(scopes, credentials, state, request)
    if principal.node_id is not None:
        raise ForbiddenError(
            "owner_key", f"This key is a data owner's: it opens the sandbox of {principal.node_id} and nothing else."
        )
    return principal


async def authenticate_owner(scopes: SecurityScopes, credentials: Credentials, state: State, request: Request) -> Principal:
    """As `authenticate`, but a data owner's key will do; what it may reach is decided where its node is known."""
    return await _holder(scopes, credentials, state, request)


async def _holder(
    scopes: SecurityScopes, credentials: HTTPAuthorizationCredentials | None, state: AppState, request: Request
) -> Principal:
    if credentials is None:
        raise UnauthorizedError("missing_key", "Send an API key: Authorization: Bearer <key>.")
    presented = credentials.credentials
    principal = await state.work(lambda uow: principals.recognise(uow.session, state.settings, presented))
    if principal is not None:
        principal = replace(principal, entry=_introduce(request, principal))
    if principal is None or not principal.valid:
        raise UnauthorizedError("invalid_key", "The API key is unknown, expired or revoked.")
    if not principal.used_recently:
        state.recorder.used(principal.key_id)
    request.scope["allowance"] = await state.rates.take(principal.key_id)
    missing = [scope for scope in scopes.scopes if scope not in effective(principal.scopes)]
    if missing:
        raise ForbiddenError("missing_scope", f"The API key lacks the scope {missing[0]}.")
    return principal


def _introduce(request: Request, principal: Principal) -> Entry:
    """From here on the request has a line for the audit log; `api.http.middleware` sees to it that a refusal is recorded."""
    route = request.scope["route"]
    entry = Entry(
        project_id=principal.project_id,
        key_id=principal.key_id,
        key_prefix=principal.prefix,
        operation=route.operation_id,
        resource=next(iter(request.path_params.values()), None),
        address=request.client.host if request.client else None,
        request_id=request.scope["request_id"],
        planned=route.status_code or 200,
    )
    request.scope["audit"] = entry
    return entry


def needs(scope: str) -> Any:
    """A caller whose key has `scope` (or `admin`)."""
    return Security(authenticate, scopes=[scope])


def needs_of_anyone(scope: str) -> Any:
    """The same, for a project's keys and for data owners' keys."""
    return Security(authenticate_owner, scopes=[scope])


Admin = Annotated[Principal, needs("admin")]
ClusterReader = Annotated[Principal, needs("clusters:read")]
ClusterWriter = Annotated[Principal, needs("clusters:write")]
ModelReader = Annotated[Principal, needs("models:read")]
SandboxReader = Annotated[Principal, needs_of_anyone("clusters:read")]
DataWriter = Annotated[Principal, needs_of_anyone("data:write")]
Executor = Annotated[Principal, needs_of_anyone("sandboxes:execute")]

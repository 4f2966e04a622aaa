"""Authenticate the caller, check the scopes of the key, and begin the request's audit record."""

from dataclasses import replace
from typing import Annotated, Any

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer, SecurityScopes

from api.domain.errors import ForbiddenError, UnauthorizedError
from api.domain.scopes import effective
from api.http.deps import AppState, State
from api.http.query import check_query
from api.services.audit import AuditLine
from api.services.principals import Principal

_bearer = HTTPBearer(auto_error=False, scheme_name="BearerKey", description="An API key. `flow-nexus keys create` prints one.")
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


async def authenticate(scopes: SecurityScopes, credentials: Credentials, state: State, request: Request) -> Principal:
    """Return the principal of a project's key.

    Raises:
        UnauthorizedError: there is no valid key.
        RateLimitedError: the key has sent too many requests.
        ForbiddenError: the key lacks a scope of the operation, or it is a data owner's key.
        InvalidError: a query parameter is unknown, comes twice or is blank.
    """
    principal = await _authenticate(scopes, credentials, state, request)
    if principal.node_id is not None:
        raise ForbiddenError(
            "owner_key",
            f"This key belongs to a data owner: it gives access to the sandbox of {principal.node_id} and to nothing else.",
        )
    return principal


async def authenticate_owner(scopes: SecurityScopes, credentials: Credentials, state: State, request: Request) -> Principal:
    """Return the principal as `authenticate` does, but allow a data owner's key too.

    The use case checks which node the data owner may access.
    """
    return await _authenticate(scopes, credentials, state, request)


async def _authenticate(
    scopes: SecurityScopes, credentials: HTTPAuthorizationCredentials | None, state: AppState, request: Request
) -> Principal:
    if credentials is None:
        raise UnauthorizedError("missing_key", "Send an API key: Authorization: Bearer <key>.")
    # It counts for the whole request: `api.http.reading` asks no second time.
    caught_up = request.scope["caught_up"] = await state.listener.caught_up()
    principal = await state.key_cache.find(credentials.credentials, caught_up=caught_up)
    if principal is not None:
        principal = replace(principal, audit_record=_begin_audit(request, principal))
    if principal is None or not principal.valid:
        raise UnauthorizedError("invalid_key", "The API key is unknown, expired or revoked.")
    if not principal.used_recently:
        state.audit_writer.note_key_use(principal.key_id)
    request.scope["allowance"] = await state.rate_limiter.take(principal.key_id)
    missing = [scope for scope in scopes.scopes if scope not in effective(principal.scopes)]
    if missing:
        raise ForbiddenError("missing_scope", f"The API key lacks the scope {missing[0]}.")
    check_query(request)
    return principal


async def check_open_query(request: Request) -> None:
    """Check the query parameters of an operation that needs no key.

    The app runs this before every operation. The others check their query after the key.
    """
    calls = [dependency.call for dependency in request.scope["route"].dependant.dependencies]
    if authenticate not in calls and authenticate_owner not in calls:
        check_query(request)


def _begin_audit(request: Request, principal: Principal) -> AuditLine:
    """Begin the audit record of a request. `api.http.middleware` records a refusal with it."""
    route = request.scope["route"]
    record = AuditLine(
        project_id=principal.project_id,
        key_id=principal.key_id,
        key_prefix=principal.prefix,
        operation=route.operation_id,
        resource=next(iter(request.path_params.values()), None),
        address=request.client.host if request.client else None,
        request_id=request.scope["request_id"],
        planned=route.status_code or 200,
    )
    request.scope["audit"] = record
    return record


def needs(scope: str) -> Any:
    """Depend on a caller whose key has `scope` (or `admin`)."""
    return Security(authenticate, scopes=[scope])


def needs_also_of_owner(scope: str) -> Any:
    """Depend on a caller as `needs` does, but allow data owners' keys too."""
    return Security(authenticate_owner, scopes=[scope])


Admin = Annotated[Principal, needs("admin")]
ClusterReader = Annotated[Principal, needs("clusters:read")]
ClusterWriter = Annotated[Principal, needs("clusters:write")]
ModelReader = Annotated[Principal, needs("models:read")]
SandboxReader = Annotated[Principal, needs_also_of_owner("clusters:read")]
DataWriter = Annotated[Principal, needs_also_of_owner("data:write")]
Executor = Annotated[Principal, needs_also_of_owner("sandboxes:execute")]

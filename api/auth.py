"""Who is calling, and what the key allows."""

from typing import Annotated, Any

from fastapi import Depends, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer, SecurityScopes

from api.deps import State
from api.domain.errors import ForbiddenError, UnauthorizedError
from api.services import keys
from api.services.keys import Principal

_bearer = HTTPBearer(auto_error=False, scheme_name="ApiKey", description="An API key, as `flow-nexus keys create` prints it.")


async def authenticate(
    scopes: SecurityScopes, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)], state: State
) -> Principal:
    """UnauthorizedError without a valid key, ForbiddenError when it lacks a scope that the operation needs."""
    if credentials is None:
        raise UnauthorizedError("missing_key", "Send an API key: Authorization: Bearer <key>.")
    presented = credentials.credentials
    principal = await state.work(lambda uow: keys.authenticate(uow.session, state.settings, presented))
    if principal is None:
        raise UnauthorizedError("invalid_key", "The API key is unknown, expired or revoked.")
    missing = [scope for scope in scopes.scopes if scope not in principal.scopes and "admin" not in principal.scopes]
    if missing:
        raise ForbiddenError("missing_scope", f"The API key lacks the scope {missing[0]}.")
    return principal


def needs(scope: str) -> Any:
    """A caller whose key has `scope` (or `admin`)."""
    return Security(authenticate, scopes=[scope])


ClusterReader = Annotated[Principal, needs("clusters:read")]
ClusterWriter = Annotated[Principal, needs("clusters:write")]
DataWriter = Annotated[Principal, needs("data:write")]
Executor = Annotated[Principal, needs("sandboxes:execute")]
ModelReader = Annotated[Principal, needs("models:read")]

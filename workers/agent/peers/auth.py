"""Authentication of an agent's callers.

Each request has a token, and each route allows some roles.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from workers.agent.peers import tokens
from workers.agent.peers.tokens import Caller
from workers.agent.protocol.storable import clean_text
from workers.agent.runtime.errors import AgentError

_SCHEME = "Bearer "
Endpoint = Callable[[Request], Awaitable[Response]]


class AuthMiddleware:
    """Refuses requests without a valid token. Stores the caller in the ASGI scope."""

    def __init__(self, app: ASGIApp, key: str) -> None:
        self._app = app
        self._key = key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            caller = self._caller(scope)
            if caller is None:
                error = AgentError("unauthorized", "the token is missing or not one of this agent's", 401)
                await error_response(error)(scope, receive, send)
                return
            scope["caller"] = caller
        # Starlette raises an error again after it has answered with a 500. uvicorn would log its
        # message, which may quote data.
        with suppress(Exception):
            await self._app(scope, receive, send)

    def _caller(self, scope: Scope) -> Caller | None:
        value = next((value for name, value in scope["headers"] if name == b"authorization"), b"").decode("latin-1")
        return tokens.read(self._key, value.removeprefix(_SCHEME)) if value.startswith(_SCHEME) else None


def require_role(roles: Sequence[str], routes: Sequence[Route]) -> list[Route]:
    """Return the routes such that callers of other roles get 403 `not_for_you`."""
    return [Route(route.path, _guarded(roles, route.endpoint), methods=sorted(route.methods or ())) for route in routes]


def require_self(request: Request, node_id: str) -> None:
    """Check that the caller is the node that it names.

    Raises:
        AgentError: `not_the_author`.
    """
    if request.scope["caller"].node_id != node_id:
        raise AgentError("not_the_author", "a node may only speak for itself", 403)


def _guarded(roles: Sequence[str], endpoint: Endpoint) -> Endpoint:
    async def guarded(request: Request) -> Response:
        if request.scope["caller"].role not in roles:
            raise AgentError("not_for_you", "callers of this role may not use this route", 403)
        return await endpoint(request)

    return guarded


def error_response(error: AgentError) -> Response:
    """Return the error as JSON with its HTTP status."""
    return JSONResponse({"code": error.code, "message": clean_text(error.message)}, error.status)

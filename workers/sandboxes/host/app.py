"""The host as one ASGI application.

Requests that name a sandbox are forwarded to it. All others go to the REST API.
"""

import hmac

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from workers.sandboxes.host.gateway import GATEWAY_SOCKET
from workers.sandboxes.host.isolation.choose import WARNING
from workers.sandboxes.host.isolation.plan import GATEWAY_ROOT
from workers.sandboxes.host.proxy import SANDBOX_HEADER, SandboxProxy
from workers.sandboxes.host.rest import RestApi, problem
from workers.sandboxes.host.sandbox_manager import SandboxManager

_OPEN_PATHS = {"/health"}


class HostApp:
    def __init__(self, manager: SandboxManager, api_key: str, template_prefix: str, *, limited_by: str) -> None:
        self._proxy = SandboxProxy(manager, ports_only=False)
        self._rest = _ApiKeyMiddleware(_rest_app(manager, template_prefix, limited_by), api_key)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and any(name == SANDBOX_HEADER for name, _ in scope["headers"]):
            await self._proxy(scope, receive, send)
        else:
            await self._rest(scope, receive, send)


class GatewayApp:
    """The part of the host that sandboxes reach: the ports of peers, with the peers' tokens."""

    def __init__(self, manager: SandboxManager) -> None:
        self._proxy = SandboxProxy(manager, ports_only=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._proxy(scope, receive, send)


class _ApiKeyMiddleware:
    """Refuse requests without the API key. Keys are compared in constant time."""

    def __init__(self, application: ASGIApp, key: str) -> None:
        self._application = application
        self._key = key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in _OPEN_PATHS:
            given_key = dict(scope["headers"]).get(b"x-api-key", b"")
            if not hmac.compare_digest(given_key, self._key):
                await problem(401, "the header X-API-Key is missing or wrong")(scope, receive, send)
                return
        await self._application(scope, receive, send)


def _rest_app(manager: SandboxManager, template_prefix: str, limited_by: str) -> Starlette:
    async def health(_request: Request) -> Response:
        isolated = manager.isolation.isolated
        return JSONResponse(
            {
                "status": "ok",
                "isolation": manager.isolation.kind,
                "warning": None if isolated else WARNING,
                "limits": limited_by,
                "gateway": f"{GATEWAY_ROOT}/{GATEWAY_SOCKET}" if isolated else None,
            }
        )

    async def not_implemented(request: Request, error: Exception) -> Response:
        if not isinstance(error, HTTPException):
            raise error
        return problem(501, f"this host does not implement {request.method} {request.url.path[:200]}")

    return Starlette(
        routes=[Route("/health", health), *RestApi(manager, template_prefix).routes()],
        exception_handlers={404: not_implemented, 405: not_implemented},
    )

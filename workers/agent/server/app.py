"""One agent as an ASGI application."""

from collections.abc import Sequence

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp

from workers.agent.peers.auth import AuthMiddleware, error_response, require_role
from workers.agent.protocol.admin import AgentConfig
from workers.agent.protocol.common import Decision
from workers.agent.runtime.errors import AgentError
from workers.agent.runtime.logs import Log
from workers.agent.runtime.paths import SandboxRoot
from workers.agent.server.control_routes import ControlRoutes
from workers.agent.server.node_routes import NodeRoutes
from workers.agent.server.parts import AgentParts
from workers.agent.server.tracing import TraceMiddleware
from workers.agent.synchronous.routes import SynchronousRoutes


class Agent:
    def __init__(self, config: AgentConfig, root: SandboxRoot, log: Log, decisions: Sequence[Decision] = ()) -> None:
        """`decisions` led to this process. The report of its next round carries them."""
        self._key = config.key
        self._log = log
        self._parts = AgentParts.create(config, root, log, decisions)

    def app(self) -> ASGIApp:
        control, node = ControlRoutes(self._parts), NodeRoutes(self._parts)
        synchronous = SynchronousRoutes(self._parts.sync_worker, self._parts.coordinator)
        routes = [
            *require_role(["control", "aggregator"], control.for_control_plane_and_aggregator()),
            *require_role(["control"], control.for_control_plane()),
            *require_role(["aggregator"], [*node.for_aggregator(), *synchronous.for_aggregator()]),
            *require_role(["aggregator", "worker"], [*node.for_authors(), *synchronous.for_authors()]),
            *require_role(["aggregator", "worker", "validator"], node.for_all_nodes()),
        ]
        handlers = {
            AgentError: _agent_error,
            ValidationError: _invalid_message,
            ClientDisconnect: _disconnected,
            HTTPException: _unknown_route,
            Exception: self._unexpected_error,
        }
        inner = Starlette(routes=routes, exception_handlers=handlers)  # type: ignore[arg-type]
        return TraceMiddleware(AuthMiddleware(inner, self._key))

    async def _unexpected_error(self, request: Request, error: Exception) -> Response:
        self._log("failed", path=request.scope["path"][:200], error=type(error).__name__)
        return error_response(AgentError("agent_failed", f"the agent failed with {type(error).__name__}", 500))


async def _agent_error(_: Request, error: AgentError) -> Response:
    return error_response(error)


async def _invalid_message(_: Request, error: ValidationError) -> Response:
    where = ".".join(str(part) for part in error.errors(include_input=False)[0]["loc"])[:200]
    return error_response(AgentError("invalid_message", f"the message has the wrong form at {where or 'its root'}"))


async def _unknown_route(_: Request, error: HTTPException) -> Response:
    return error_response(AgentError("unknown_route", "this agent has no such route", error.status_code))


async def _disconnected(_: Request, __: ClientDisconnect) -> Response:
    return error_response(AgentError("disconnected", "the sender has disconnected", 400))

"""The trace of the control plane's request, so that a log line of the agent names it.

An agent sends no spans: its sandbox reaches no collector. The control plane records its calls.
"""

from starlette.types import ASGIApp, Receive, Scope, Send

from workers.agent.runtime.logs import within_trace

_HEADER = b"traceparent"


class TraceMiddleware:
    """ASGI middleware that keeps the id of a request's trace for the log."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        header = next((value for name, value in scope.get("headers", ()) if name == _HEADER), b"")
        with within_trace(header.decode("latin-1")):
            await self._app(scope, receive, send)

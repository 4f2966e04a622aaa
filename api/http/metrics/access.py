"""Who may read `/metrics`: all, the holder of the token, or those who reach the metrics port."""

from fastapi import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from api.domain.errors import UnauthorizedError
from api.http.problems import ProblemDetails, response
from api.runtime.metrics.token import is_allowed
from api.settings import Settings

PATH = "/metrics"


class MetricsPort:
    """ASGI middleware: the metrics port serves `/metrics` and nothing else.

    The public port then serves everything else. Without a metrics port (`port` is None), it serves
    everything.
    """

    def __init__(self, app: ASGIApp, *, port: int | None) -> None:
        self._app = app
        self._port = port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._port is not None:
            # The address of the socket, not of a header.
            is_metrics_port = (scope.get("server") or ("", None))[1] == self._port
            if is_metrics_port != (scope["path"] == PATH):
                problem = ProblemDetails(404, "no_such_path", "There is no resource at this path.")
                await response(Request(scope), problem)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def check_token(settings: Settings, authorization: str | None) -> None:
    """Check the header `Authorization` of a scrape.

    Raises:
        UnauthorizedError: the deployment has a token for its metrics, and this is another one.
    """
    if not is_allowed(settings, authorization):
        raise UnauthorizedError("invalid_metrics_token", "Send the token of the metrics: Authorization: Bearer <token>.")

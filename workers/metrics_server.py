"""Serve the metrics of a Celery worker on a port of their own."""

import logging
import socket
import threading
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from api.runtime.metrics.token import is_allowed
from api.settings import Settings
from workers.metrics import REGISTRIES

log = logging.getLogger(__name__)


def start(settings: Settings) -> ThreadingHTTPServer | None:
    """Serve `/metrics` in a thread, if the settings name a port. Return the server.

    A port that cannot be bound stops no work: the log names it.
    """
    if settings.worker_metrics_port is None:
        return None
    address = (settings.metrics_host, settings.worker_metrics_port)
    try:
        server = (_Server6 if ":" in settings.metrics_host else ThreadingHTTPServer)(address, partial(_Handler, settings))
    except OSError as error:
        log.error("FLOW_NEXUS_WORKER_METRICS_PORT: %s port %d cannot be bound: %s", *address, error.strerror)  # noqa: TRY400
        return None
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server


class _Server6(ThreadingHTTPServer):
    address_family = socket.AF_INET6


class _Handler(BaseHTTPRequestHandler):
    """One scrape. A client that sends or reads nothing holds its thread for ten seconds."""

    timeout = 10

    def __init__(self, settings: Settings, *arguments: Any) -> None:
        self._settings = settings
        super().__init__(*arguments)

    def do_GET(self) -> None:
        if self.path != "/metrics":
            self._answer(HTTPStatus.NOT_FOUND)
        elif not is_allowed(self._settings, self.headers["Authorization"]):
            self._answer(HTTPStatus.UNAUTHORIZED, headers=(("WWW-Authenticate", 'Bearer realm="flow-nexus"'),))
        else:
            self._answer(HTTPStatus.OK, generate_latest(REGISTRIES.shown), (("Content-Type", CONTENT_TYPE_LATEST),))

    def _answer(self, status: HTTPStatus, body: bytes = b"", headers: tuple[tuple[str, str], ...] = ()) -> None:
        self.send_response(status)
        for name, value in (*headers, ("Content-Length", str(len(body)))):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def version_string(self) -> str:
        return "flow-nexus"

    def log_message(self, *_: object) -> None:
        """Log no scrape."""

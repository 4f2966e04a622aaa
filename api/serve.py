"""Serve the API: `python -m api.serve --port 8700 --workers 2`.

Several worker processes accept connections on one socket. Their parent restarts one that dies.
It counts a worker as alive once this file is imported. So this file imports little: a worker that
imports the app on a busy machine is not taken for a frozen one.
"""

import argparse
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import threading
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.supervisors import Multiprocess

from api.http.server import make_config
from api.runtime.metrics.folder import FOLDER

if TYPE_CHECKING:
    from fastapi import FastAPI

    from api.settings import Settings

# A worker that is frozen for this long is replaced.
_FROZEN_S = 30


def main() -> None:
    description = "Serve the API; settings come from FLOW_NEXUS_*."
    parser = argparse.ArgumentParser(prog="python -m api.serve", description=description)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8700)
    parser.add_argument("--workers", type=_count, default=1, help="the number of processes")
    arguments = parser.parse_args()
    settings = _read_settings()
    _set_up_logging(settings)
    address = {"host": arguments.host, "port": arguments.port}
    if arguments.workers == 1:
        config = make_config("api.main:create_app_from_env", factory=True, **address)
        uvicorn.Server(config).run(sockets=_sockets(config, settings))
        return
    config = make_config(
        "api.serve:create_worker_app",
        factory=True,
        workers=arguments.workers,
        timeout_worker_healthcheck=_FROZEN_S,
        **address,
    )
    with tempfile.TemporaryDirectory(prefix="flow-nexus-metrics-") as folder:
        # The workers write their counts into files here, so that each can tell those of all.
        os.environ[FOLDER] = folder
        Multiprocess(config, sockets=_sockets(config, settings)).run()


def create_worker_app() -> "FastAPI":
    """Build the app in a worker process, which ends when its parent has ended."""
    from api.main import create_app_from_env

    threading.Thread(target=_follow_parent, name="parent", daemon=True).start()
    return create_app_from_env()


def _read_settings() -> "Settings":
    """Return the settings, or end with one line that says what is wrong or missing."""
    from pydantic import ValidationError

    from api.runtime import extras
    from api.settings import Settings, wrong_settings

    if missing := extras.missing(os.environ):
        sys.exit(missing)
    try:
        return Settings()
    except ValidationError as error:
        sys.exit(f"these settings are missing or wrong: {wrong_settings(error)}")


def _set_up_logging(settings: "Settings") -> None:
    """Log the server's own lines too, also those of the parent of several workers."""
    from api.runtime.log_setup import set_up_logging

    set_up_logging(settings.log_level, settings.log_format)


def _sockets(config: uvicorn.Config, settings: "Settings") -> list[socket.socket]:
    """Bind the public port, and the port of the metrics where one is set.

    Every process accepts on both. `MetricsPort` in the app knows them apart.
    """
    if settings.metrics_port is None:
        return [config.bind_socket()]
    metrics = make_config("", host=settings.metrics_host, port=settings.metrics_port)
    return [config.bind_socket(), metrics.bind_socket()]


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def _count(text: str) -> int:
    count = int(text)
    if not 1 <= count <= 64:
        raise argparse.ArgumentTypeError("must be from 1 to 64")
    return count


if __name__ == "__main__":
    main()

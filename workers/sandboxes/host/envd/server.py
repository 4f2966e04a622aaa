"""Run envd: its HTTP application, the host's connections, and its duties as first process."""

import asyncio
import logging
import os
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

import uvicorn
from e2b.envd.filesystem.filesystem_connect import FilesystemASGIApplication
from e2b.envd.process.process_connect import ProcessASGIApplication
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from uvicorn.server import ServerState

from .agent_keeper import AgentKeeper
from .dialer import Dialer
from .file_routes import FileRoutes
from .filesystem_service import FilesystemService
from .fork_server import ForkServer
from .limit_enforcer import LimitEnforcer
from .limit_notifier import LimitNotifier
from .log_writer import SandboxLog
from .process_service import ProcessService
from .process_table import ProcessTable
from .sandbox_paths import HOME, SandboxPaths
from .usage_meter import UsageMeter
from .wire import SandboxSettings

_THREADS = 8


async def serve(
    settings: SandboxSettings, control: socket.socket, log_descriptor: int, fork_server: ForkServer | None = None
) -> None:
    """Run until the host is gone. Then end every process of the sandbox."""
    # asyncio warns when a client closes its connection early. That is no fault.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    _start_threads()
    log = SandboxLog(log_descriptor)
    paths = SandboxPaths(settings.root)
    _make_home(settings, paths)
    notifier = LimitNotifier(control)
    table = ProcessTable(settings, paths, log, notifier, fork_server.pid if fork_server else None)
    usage = UsageMeter(settings, paths)
    enforcer = LimitEnforcer(settings, usage, table, log, notifier)
    asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, table.reap)
    connections = _Connections(_application(paths, table, usage, enforcer))
    enforcing = asyncio.create_task(enforcer.run())
    keeping: asyncio.Task[None] | None = None
    if fork_server is not None:
        keeper = AgentKeeper(fork_server, table, log)
        # The host's first request waits for this. So a new sandbox already has its agent.
        if await keeper.start():
            keeping = asyncio.create_task(keeper.run())
    try:
        await Dialer(control, paths, connections.accept).run()
    finally:
        if keeping is not None:
            keeping.cancel()
        table.kill_all(at_end=True)
        # An ordinary exit would wait for open streams, and nothing is left to save.
        os._exit(0 if not enforcing.done() else 1)


def _start_threads() -> None:
    """Start the threads for blocking work now.

    Later, a sandbox that used up its processes could prevent that, and so stop its own enforcer.
    """
    threads = ThreadPoolExecutor(_THREADS)
    all_started = threading.Barrier(_THREADS + 1)
    for _ in range(_THREADS):
        threads.submit(all_started.wait)
    all_started.wait()
    asyncio.get_running_loop().set_default_executor(threads)


def _make_home(settings: SandboxSettings, paths: SandboxPaths) -> None:
    home = paths.resolve(HOME)
    home.mkdir(parents=True, exist_ok=True)
    if settings.root != "/":
        # A login shell reads the machine's profile, which may set another PATH.
        (home / ".bash_profile").write_text(f"export PATH='{settings.path}'\n")


def _application(paths: SandboxPaths, table: ProcessTable, usage: UsageMeter, enforcer: LimitEnforcer) -> Starlette:
    async def health(_request: Request) -> Response:
        return Response(status_code=204)

    async def metrics(_request: Request) -> Response:
        return JSONResponse(asdict(await usage.measure()))

    files = FileRoutes(paths, enforcer)
    process = ProcessASGIApplication(ProcessService(table))
    filesystem = FilesystemASGIApplication(FilesystemService(paths))
    routes: list[BaseRoute] = [
        Route("/health", health),
        Route("/metrics", metrics),
        Route("/files", files.read, methods=["GET"]),
        Route("/files", files.write, methods=["POST"]),
        Mount(process.path, process),
        Mount(filesystem.path, filesystem),
    ]
    return Starlette(routes=routes)


class _Connections:
    """Serves HTTP on sockets that are already connected. uvicorn's own server would listen."""

    def __init__(self, application: Starlette) -> None:
        self._config = uvicorn.Config(application, lifespan="off", access_log=False, log_config=None)
        self._config.load()
        self._state = ServerState()

    async def accept(self, connection: socket.socket) -> None:
        def make_protocol() -> asyncio.Protocol:
            protocol: asyncio.Protocol = self._config.http_protocol_class(  # type: ignore[call-arg]
                config=self._config, server_state=self._state, app_state={}
            )
            return protocol

        await asyncio.get_running_loop().connect_accepted_socket(make_protocol, connection)

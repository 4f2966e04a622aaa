"""`python -m workers.sandboxes.host`: serve until SIGTERM or SIGINT.

Every sandbox's processes end with the host.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import logging
import resource
import signal
import socket
import sys
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from workers.sandboxes.host.app import GatewayApp, HostApp
from workers.sandboxes.host.config import HostConfig, read_config
from workers.sandboxes.host.isolation.cgroups import find_cgroups
from workers.sandboxes.host.isolation.choose import choose_isolation
from workers.sandboxes.host.sandbox_manager import SandboxManager
from workers.sandboxes.host.sandbox_starter import SandboxStarter

_LOG = logging.getLogger(__name__)
_KEEP_ALIVE_S = 75
_DRAIN_S = 1


class _Server(uvicorn.Server):
    """A server without signal handlers: `_serve` ends the sandboxes before the host."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def main() -> None:
    config = read_config()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s sandbox-host %(message)s", stream=sys.stderr)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    # asyncio warns when a client closes its connection early. That is no fault.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    _allow_descriptors()
    config.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (config.home / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit(f"another sandbox host runs on {config.home}")
        try:
            listener = socket.create_server((config.address, config.port), backlog=512)
        except OSError as error:
            sys.exit(f"cannot listen on {config.address}:{config.port}: {error.strerror}")
        with listener:
            asyncio.run(_serve(config, listener))


async def _serve(config: HostConfig, listener: socket.socket) -> None:
    try:
        isolation = choose_isolation(config.isolation, config.home / "shared")
    except RuntimeError as error:
        sys.exit(str(error))
    group = "flow-nexus-" + hashlib.sha256(str(config.home).encode()).hexdigest()[:12]
    cgroups = find_cgroups(group) if isolation.isolated else None
    # Without cgroups nothing could tell a fork's own memory from that of the template.
    warm = config.warm_agents and isolation.can_fork and cgroups is not None
    manager = SandboxManager(config.home, SandboxStarter(isolation, warm=warm), cgroups, config.limits)
    limited_by = "cgroups" if cgroups else "rlimits"
    host = HostApp(manager, config.api_key, config.template_prefix, limited_by=limited_by)
    server = _server(host)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, _stop, server)
    if not isolation.isolated:
        _LOG.warning("%s", "no isolation on this machine; see /health")
    _LOG.info("isolation by %s, limits by %s, agents %s", isolation.kind, limited_by, "warm" if warm else "by command")
    running = asyncio.create_task(manager.run(GatewayApp(manager) if isolation.isolated else None))
    # The one line on stdout: the process that started the host reads the address from it.
    address, port = listener.getsockname()[:2]
    print(f"http://{address}:{port}", flush=True)
    await server.serve(sockets=[listener])
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    if cgroups is not None:
        cgroups.close()


def _server(application: ASGIApp) -> _Server:
    return _Server(
        uvicorn.Config(
            application,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=_DRAIN_S,
        )
    )


def _stop(server: _Server) -> None:
    server.should_exit = True


def _allow_descriptors() -> None:
    """Allow as many as the machine does. Each connection into a sandbox takes two."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    main()

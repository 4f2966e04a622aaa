"""The network work of this process: one event loop in a thread, and its connections to agents.

Steps run in threads and send their network work here. So a connection outlives a step, and a round
does not connect again to every agent.
"""

import asyncio
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import CancelledError, ThreadPoolExecutor
from functools import cache
from ssl import SSLContext
from typing import Any, TypeVar

import httpx

T = TypeVar("T")
# The local host and the agents close an idle connection after 75 s. This side closes first.
_IDLE_S = 30.0
_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=256, keepalive_expiry=_IDLE_S)
# Threads for files and the database. A step has at most two at a time.
_THREADS = 64
_CLOSE_S = 5.0


@cache
def _tls() -> SSLContext:
    """Return the TLS settings, created once: reading the certificate authorities takes 20 ms."""
    return httpx.create_ssl_context()


class AgentConnections:
    """Connections to agents that stay open between calls. Use it in one event loop only."""

    def __init__(self) -> None:
        self._clients: dict[str | None, httpx.AsyncClient] = {}

    def client(self, uds: str | None) -> httpx.AsyncClient:
        """Return the client for TCP, or that for a Unix socket. Do not close it."""
        client = self._clients.get(uds)
        if client is None:
            transport = httpx.AsyncHTTPTransport(verify=_tls(), uds=uds, limits=_LIMITS)
            client = self._clients[uds] = httpx.AsyncClient(transport=transport)
        return client

    async def aclose(self) -> None:
        """Close all connections. A later call opens new ones."""
        clients, self._clients = self._clients, {}
        for client in clients.values():
            await client.aclose()


class Network:
    """Runs coroutines for threads.

    The loop starts with the first coroutine. A forked process gets a loop of its own.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: _LoopThread | None = None
        self._inherited: list[_LoopThread] = []

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Return the coroutine's result. Call it from any thread but the loop's own."""
        future = asyncio.run_coroutine_threadsafe(work, self._here().loop)
        try:
            return future.result()
        except CancelledError:
            raise RuntimeError("the network of this process was closed") from None
        except BaseException:
            future.cancel()
            raise

    @property
    def connections(self) -> AgentConnections:
        """The connections to agents, for coroutines of `run`."""
        return self._here().connections

    def close(self) -> None:
        """Cancel what runs, and close all connections. A later coroutine starts again."""
        with self._lock:
            running, self._running = self._running, None
        if running is not None and running.pid == os.getpid():
            running.close()

    def _here(self) -> "_LoopThread":
        with self._lock:
            if self._running is None or self._running.pid != os.getpid():
                if self._running is not None:
                    # The parent still uses its loop. To close it here would end calls there.
                    self._inherited.append(self._running)
                self._running = _LoopThread()
            return self._running


class _LoopThread:
    def __init__(self) -> None:
        self.pid = os.getpid()
        self.loop = asyncio.new_event_loop()
        self.loop.set_default_executor(ThreadPoolExecutor(_THREADS, thread_name_prefix="network"))
        self.connections = AgentConnections()
        self._stopped = asyncio.Event()
        self._thread = threading.Thread(target=self._serve, name="network", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
            runner.run(self._until_stopped())

    async def _until_stopped(self) -> None:
        await self._stopped.wait()
        await self.connections.aclose()

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(_CLOSE_S)

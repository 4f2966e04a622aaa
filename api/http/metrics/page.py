"""What one scrape of `/metrics` answers."""

import anyio
import anyio.to_thread
from prometheus_client import CollectorRegistry, generate_latest

from api.http.readiness import ReadinessChecker
from api.runtime.metrics.folder import forget_dead_processes

_AT_ONCE = 2


class MetricsPage:
    """The text of all metrics. Scrapes have threads of their own, so that they delay no request."""

    def __init__(self, registry: CollectorRegistry, readiness: ReadinessChecker) -> None:
        self._registry = registry
        self._readiness = readiness
        self._limiter = anyio.CapacityLimiter(_AT_ONCE)

    async def text(self) -> bytes:
        # `PartCollector` shows what this finds. A thread must not wait for the event loop.
        await self._readiness.check()
        return await anyio.to_thread.run_sync(self._render, limiter=self._limiter)

    def _render(self) -> bytes:
        forget_dead_processes()
        return generate_latest(self._registry)

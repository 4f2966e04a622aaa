"""Metrics of the API's processes: what waits, and how late the event loop is."""

import asyncio

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from api.domain.sandboxes import ExecutionLimit
from api.domain.words import words_of

_CHECK_EVERY_S = 0.5
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


class ProcessMetrics:
    """With several processes, the gauges are the sums over those that live."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.held_requests = Gauge(
            "flow_nexus_held_requests",
            "Answers and event streams that wait for something to happen",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.waiting_use_cases = Gauge(
            "flow_nexus_waiting_use_cases",
            "Use cases that wait for a thread and a connection to the database",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.sandbox_limits = Counter(
            "flow_nexus_sandbox_limits", "Limits that ended code or an agent in a sandbox", ["limit"], registry=registry
        )
        for limit in words_of(ExecutionLimit):  # `rate` does not see a counter that begins with 1.
            self.sandbox_limits.labels(limit)
        self._lag = Histogram(
            "flow_nexus_event_loop_lag_seconds",
            "How late the event loop continued a task, measured twice a second",
            registry=registry,
            buckets=_BUCKETS,
        )

    async def watch_event_loop(self) -> None:
        """Measure the lag of the event loop until the task is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _CHECK_EVERY_S
            await asyncio.sleep(_CHECK_EVERY_S)
            self._lag.observe(max(0.0, loop.time() - due))

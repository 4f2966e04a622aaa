"""The state of one round at a worker."""

import asyncio
import threading
from dataclasses import dataclass, field

from workers.agent.protocol.training import TrainRound
from workers.agent.runtime.worker_report import WorkerReport


@dataclass(frozen=True, slots=True)
class WorkerRound:
    """A round that this worker takes part in. Only its events and its report change.

    `stop` ends the round. `exchange_over` ends the peer exchange; the update then goes to the
    aggregator. Both are set once and never cleared.
    """

    request: TrainRound
    report: WorkerReport
    stop: threading.Event = field(default_factory=threading.Event)
    exchange_over: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def training_id(self) -> str:
        return self.request.training_id

    @property
    def number(self) -> int:
        return self.request.round

    def end(self) -> None:
        """Stop local training and the peer exchange."""
        self.stop.set()
        self.exchange_over.set()

    def reopened(self, request: TrainRound) -> "WorkerRound":
        """Return the same round, in which only the update is sent again."""
        return WorkerRound(request, WorkerReport.reopen(self.report.current), self.stop, self.exchange_over)

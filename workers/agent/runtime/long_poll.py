"""A round's report, and the requests that wait until the round ends."""

import asyncio
from contextlib import suppress
from typing import Generic, TypeVar

from pydantic import BaseModel

from workers.agent.protocol.aggregation import AggregateReport
from workers.agent.protocol.common import AgentProblem
from workers.agent.protocol.training import TrainReport

M = TypeVar("M", bound=BaseModel)
R = TypeVar("R", TrainReport, AggregateReport)


def validated_copy(message: M, **fields: object) -> M:
    """Return a copy of `message` with other values in `fields`.

    pydantic checks the names and the types, which `model_copy(update=...)` does not.
    """
    return type(message).model_validate({**dict(message), **fields})


class PollableReport(Generic[R]):
    """A round's report. The round is open until the report's state changes for the first time.

    Subclasses have one method for each thing that happens in a round. No other code changes a
    report. Each change replaces the report, so a report that was handed out never changes.
    """

    def __init__(self, report: R) -> None:
        self._report: R = report
        self._open_state: str = report.state
        self._ended = asyncio.Event()

    @property
    def current(self) -> R:
        return self._report

    @property
    def is_open(self) -> bool:
        return self._report.state == self._open_state

    async def when_ended(self, within_s: float) -> R:
        """Return the report once the round has ended, or after `within_s` seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._ended.wait()
        return self._report

    def stop(self) -> None:
        self._update(state="stopped")

    def fail(self, problem: AgentProblem) -> None:
        self._update(state="failed", problem=problem)

    def _update(self, **fields: object) -> None:
        """Replace the report. Only the event loop's thread may end the round: it wakes waiters."""
        self._report = validated_copy(self._report, **fields)
        if not self.is_open:
            self._ended.set()

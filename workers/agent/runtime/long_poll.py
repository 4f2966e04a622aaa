"""A round's report, and those who wait for it to change."""

import asyncio
from contextlib import suppress
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

R = TypeVar("R", bound=BaseModel)


class PollableReport(Generic[R]):
    """A report in one of several states; waiters are woken when it leaves the one it began in."""

    def __init__(self, report: R, open_state: str) -> None:
        self.report = report
        self._open_state = open_state
        self._closed = asyncio.Event()

    @property
    def state(self) -> str:
        return str(self.report.state)  # type: ignore[attr-defined]

    @property
    def is_open(self) -> bool:
        return self.state == self._open_state

    def change(self, **fields: Any) -> None:
        self.report = self.report.model_copy(update=fields)
        if not self.is_open:
            self._closed.set()

    async def closed(self, within_s: float) -> R:
        """The report once the round has ended, or as it stands when the time is over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._closed.wait()
        return self.report

"""Answer equal questions of the same moment once."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeVar

T = TypeVar("T")
# A flight that hangs does not hold up the next one for longer.
_LONGEST_WAIT_S = 1.0


class SingleFlight:
    """Share the work for equal questions.

    A question joins only work that has not begun. So its answer is never older than the question:
    whoever has changed something sees the change. While one flight works, all further questions
    with its key wait for the next flight.

    The key has everything that the answer depends on, so also the rights of the caller.
    """

    def __init__(self) -> None:
        self._gathering: dict[Hashable, asyncio.Task[Any]] = {}
        self._working: dict[Hashable, asyncio.Task[Any]] = {}

    async def run(self, key: Hashable, work: Callable[[], Awaitable[T]]) -> T:
        """Return the result of `work`, or raise its error.

        A caller that is cancelled leaves. The work goes on for the others.
        """
        flight = self._gathering.get(key)
        if flight is None:
            flight = asyncio.create_task(self._fly(key, work, self._working.get(key)))
            flight.add_done_callback(_take_error)
            self._gathering[key] = flight
        result: T = await asyncio.shield(flight)
        return result

    async def _fly(self, key: Hashable, work: Callable[[], Awaitable[T]], before: asyncio.Task[Any] | None) -> T:
        flight = self._gathering[key]
        try:
            if before is not None:
                await asyncio.wait({before}, timeout=_LONGEST_WAIT_S)
        finally:
            del self._gathering[key]
        self._working[key] = flight
        try:
            return await work()
        finally:
            if self._working.get(key) is flight:
                del self._working[key]


def _take_error(flight: asyncio.Task[Any]) -> None:
    """Take the error of a flight that all its callers have left."""
    if not flight.cancelled():
        flight.exception()

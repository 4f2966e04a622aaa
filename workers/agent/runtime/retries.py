"""Repeated attempts at a call to another agent."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from workers.agent.runtime.errors import AgentError

T = TypeVar("T")


async def retry(
    call: Callable[[], Awaitable[T]],
    pauses_s: Iterable[float],
    on_failure: Callable[[AgentError, float], None] = lambda _error, _pause_s: None,
) -> T:
    """Return the result of `call`; repeat it after each AgentError, once for each pause.

    `on_failure` gets the error and the pause that follows, in seconds. It may raise to give up.
    Several calls share one budget of attempts when they share an iterator of pauses.

    Raises:
        AgentError: that of the last attempt.
    """
    pauses = iter(pauses_s)
    while True:
        try:
            return await call()
        except AgentError as error:
            pause_s = next(pauses, None)
            if pause_s is None:
                raise
            on_failure(error, pause_s)
        await asyncio.sleep(pause_s)

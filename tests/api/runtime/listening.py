"""Run a scenario beside a listener, as a process of the API does."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from api.runtime.listener import Listener


async def connected(listener: Listener) -> None:
    async with asyncio.timeout(20):
        while not listener.is_connected:
            await asyncio.sleep(0.01)


def run_beside(listener: Listener, scenario: Callable[[], Awaitable[None]], *, listen: bool = True) -> None:
    """Run the scenario in a loop of its own. With `listen`, the listener is connected before."""

    async def play() -> None:
        listening = asyncio.create_task(listener.run()) if listen else None
        if listening is not None:
            await connected(listener)
        await scenario()
        if listening is not None:
            listening.cancel()
            with suppress(asyncio.CancelledError):
                await listening

    asyncio.run(play())

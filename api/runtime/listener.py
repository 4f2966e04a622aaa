"""One connection per process that hears every commit's notification, for all who wait: event streams and `Prefer: wait`."""

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import psycopg
from sqlalchemy import make_url

from api.store.events import CHANNEL

NAME = "flow_nexus_listener"
log = logging.getLogger(__name__)
T = TypeVar("T")
# Notifications are a hint: what waits looks again by itself after so long.
_LOOK_AGAIN_S = 2.0
_RECONNECT_S = 1.0
_CHECK_S = 15.0
_ANSWER_S = 5.0


class Listener:
    """Wakes waiters of a cluster. `run()` holds the connection, and opens a new one when it breaks."""

    def __init__(self, database_url: str) -> None:
        url = make_url(database_url).set(drivername="postgresql")
        self._conninfo = url.render_as_string(hide_password=False)
        self._waiting: dict[str, set[asyncio.Event]] = defaultdict(set)

    async def run(self) -> None:
        while True:
            try:
                await self._listen()
            except (psycopg.Error, OSError, TimeoutError) as error:
                log.warning("the notification connection broke: %s", type(error).__name__)
            self._wake_all()
            await asyncio.sleep(_RECONNECT_S)

    async def _listen(self) -> None:
        connection = await psycopg.AsyncConnection.connect(
            self._conninfo, autocommit=True, connect_timeout=5, application_name=NAME
        )
        async with connection:
            await connection.execute(f"LISTEN {CHANNEL}")
            self._wake_all()
            while True:
                async for notification in connection.notifies(timeout=_CHECK_S):
                    for event in self._waiting.get(notification.payload, ()):
                        event.set()
                # Silence is also what a dead connection sounds like.
                async with asyncio.timeout(_ANSWER_S):
                    await connection.execute("SELECT 1")

    def _wake_all(self) -> None:
        for events in self._waiting.values():
            for event in events:
                event.set()

    @property
    def waiting(self) -> int:
        """How many wait now: held answers and event streams."""
        return sum(len(events) for events in self._waiting.values())

    @asynccontextmanager
    async def bell(self, cluster_id: str) -> AsyncIterator[asyncio.Event]:
        """An event that is set at each commit in the cluster."""
        event = asyncio.Event()
        self._waiting[cluster_id].add(event)
        try:
            yield event
        finally:
            self._waiting[cluster_id].discard(event)
            if not self._waiting[cluster_id]:
                del self._waiting[cluster_id]

    async def until(
        self,
        cluster_id: str,
        look: Callable[[], Awaitable[T]],
        done: Callable[[T], bool],
        seconds: float,
        given_up: Callable[[], Awaitable[bool]],
    ) -> T:
        """Look until `done`, until the time is over or until nobody waits any more; returns the last look."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        async with self.bell(cluster_id) as event:
            while True:
                event.clear()
                found = await look()
                left = end - loop.time()
                if done(found) or left <= 0 or await given_up():
                    return found
                await rest(event, min(left, _LOOK_AGAIN_S))


async def rest(event: asyncio.Event, seconds: float) -> bool:
    """Wait for the event, at most so long; True if it came."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()

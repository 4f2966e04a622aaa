"""Listen to Postgres notifications over one connection, for event streams and `Prefer: wait`."""

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
# A notification can be lost. So every waiter also polls at this interval.
_POLL_EVERY_S = 2.0
_RECONNECT_S = 1.0
_CHECK_S = 15.0
_ANSWER_S = 5.0


class Listener:
    """Wake the waiters of a cluster when a transaction in it is committed.

    `run()` holds the connection and opens a new one when it breaks.
    """

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
                # A dead connection is silent too. This query fails on a dead one.
                async with asyncio.timeout(_ANSWER_S):
                    await connection.execute("SELECT 1")

    def _wake_all(self) -> None:
        for events in self._waiting.values():
            for event in events:
                event.set()

    @property
    def waiting(self) -> int:
        """Return the number of held answers and event streams that wait now."""
        return sum(len(events) for events in self._waiting.values())

    @asynccontextmanager
    async def subscribe(self, cluster_id: str) -> AsyncIterator[asyncio.Event]:
        """Yield an `asyncio.Event` that is set at each commit in the cluster."""
        event = asyncio.Event()
        self._waiting[cluster_id].add(event)
        try:
            yield event
        finally:
            self._waiting[cluster_id].discard(event)
            if not self._waiting[cluster_id]:
                del self._waiting[cluster_id]

    async def poll_until(
        self,
        cluster_id: str,
        load: Callable[[], Awaitable[T]],
        done: Callable[[T], bool],
        seconds: float,
        abandoned: Callable[[], Awaitable[bool]],
    ) -> T:
        """Call `load` at each commit in the cluster and return its last result.

        Stop when `done(result)` is true, after `seconds`, or when `abandoned()` is true.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        async with self.subscribe(cluster_id) as event:
            while True:
                event.clear()
                loaded = await load()
                left = end - loop.time()
                if done(loaded) or left <= 0 or await abandoned():
                    return loaded
                await wait_for_event(event, min(left, _POLL_EVERY_S))


async def wait_for_event(event: asyncio.Event, seconds: float) -> bool:
    """Wait at most `seconds` for the event. Return whether it is set."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()

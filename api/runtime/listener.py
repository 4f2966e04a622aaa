"""Listen to Postgres notifications over one connection.

Event streams and `Prefer: wait` wait for those of a cluster. The cache of keys waits for those of a
key, and the cache of answers for those of changed rows.
"""

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from typing import TypeVar

import psycopg
from sqlalchemy import make_url

from api.runtime.notification_channel import NotificationChannel, open_channel
from api.store.events import CHANGE_MARK, KEY_MARK

NAME = "flow_nexus_listener"
log = logging.getLogger(__name__)
T = TypeVar("T")
# A notification can be lost. So every waiter also polls at this interval.
_POLL_EVERY_S = 2.0
_RECONNECT_S = 1.0
_CHECK_S = 15.0
_ANSWER_S = 5.0
# A request waits this long for the proof that the connection is alive.
_PROOF_S = 1.0


class Listener:
    """Wake the waiters of a cluster when a transaction in it is committed.

    `run()` holds the connection and opens a new one when it breaks. `on_key_change` is called with
    the id of each key that was changed. `on_change` is called with the ids that a changed row
    concerns. Both are called with None when anything may have changed: the connection is new or
    lost. `on_waiting` is called with 1 and -1 when a waiter comes and goes.
    """

    def __init__(self, database_url: str) -> None:
        url = make_url(database_url).set(drivername="postgresql")
        self._conninfo = url.render_as_string(hide_password=False)
        self._waiting: dict[str, set[asyncio.Event]] = defaultdict(set)
        self._channel: NotificationChannel | None = None
        self.on_key_change: Callable[[str | None], None] = _ignore
        self.on_change: Callable[[Collection[str] | None], None] = _ignore
        self.on_waiting: Callable[[int], None] = _ignore

    async def run(self) -> None:
        while True:
            try:
                await self._listen()
            except (psycopg.Error, OSError, TimeoutError) as error:
                log.warning("the notification connection broke: %s", type(error).__name__)
            self._wake_all()
            await asyncio.sleep(_RECONNECT_S)

    async def _listen(self) -> None:
        async with open_channel(self._conninfo, NAME, self._receive) as channel:
            self._forget_all()
            self._channel = channel
            self._wake_all()
            try:
                while True:
                    await channel.wait(_CHECK_S)
                    # A dead connection is silent too. It gives no answer.
                    async with asyncio.timeout(_ANSWER_S):
                        await asyncio.shield(channel.caught_up())
            finally:
                self._channel = None
                self._forget_all()

    def _receive(self, payload: str) -> None:
        if payload.startswith(CHANGE_MARK):
            self.on_change(payload.removeprefix(CHANGE_MARK).split())
            return
        if payload.startswith(KEY_MARK):
            self.on_key_change(payload)
        for event in self._waiting.get(payload, ()):
            event.set()

    def _forget_all(self) -> None:
        self.on_key_change(None)
        self.on_change(None)

    @property
    def is_connected(self) -> bool:
        return self._channel is not None

    async def caught_up(self) -> bool:
        """Return whether every notification sent before this call has arrived.

        It takes one round trip and no transaction. The result is false without a connection that
        answers within a second.
        """
        channel = self._channel
        if channel is None:
            return False
        try:
            async with asyncio.timeout(_PROOF_S):
                return await asyncio.shield(channel.caught_up())
        except TimeoutError as error:
            channel.end(error)
            return False

    def _wake_all(self) -> None:
        for events in self._waiting.values():
            for event in events:
                event.set()

    @asynccontextmanager
    async def subscribe(self, cluster_id: str) -> AsyncIterator[asyncio.Event]:
        """Yield an `asyncio.Event` that is set at each commit in the cluster."""
        event = asyncio.Event()
        self._waiting[cluster_id].add(event)
        self.on_waiting(1)
        try:
            yield event
        finally:
            self.on_waiting(-1)
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


def _ignore(_: object) -> None:
    return


async def wait_for_event(event: asyncio.Event, seconds: float) -> bool:
    """Wait at most `seconds` for the event. Return whether it is set."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()

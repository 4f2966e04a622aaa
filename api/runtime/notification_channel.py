"""One connection that receives Postgres notifications, and knows whether all have arrived."""

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import psycopg
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn

from api.store.events import CHANNEL

_CONNECT_S = 5


class NotificationChannel:
    """A listening connection. `received` is called with each notification.

    The connection stays in pipeline mode. A Sync message there costs one round trip and no
    transaction. Postgres sends the waiting notifications before it answers a Sync.
    """

    def __init__(self, connection: PGconn, received: Callable[[str], None]) -> None:
        self._connection = connection
        # A descriptor of our own: libpq closes its descriptor when the server is gone.
        self._descriptor = os.dup(connection.socket)
        self._received = received
        self._loop = asyncio.get_running_loop()
        self._gathering: asyncio.Future[bool] | None = None
        self._asked: deque[asyncio.Future[bool]] = deque()
        self._end: asyncio.Future[None] = self._loop.create_future()

    def caught_up(self) -> asyncio.Future[bool]:
        """Return true when all notifications sent before this call have arrived.

        The result is false when the connection has ended. Do not cancel the future: callers of the
        same moment share it.
        """
        if self._gathering is None:
            self._gathering = self._loop.create_future()
            self._loop.call_soon(self._ask)
        return self._gathering

    async def wait(self, seconds: float) -> None:
        """Wait until the time is over or the connection has ended.

        Raises:
            psycopg.Error: the connection has ended.
        """
        await asyncio.wait({self._end}, timeout=seconds)
        if self._end.done():
            self._end.result()

    def end(self, error: Exception) -> None:
        """Take the connection for dead because of `error`."""
        if not self._end.done():
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._end.set_exception(error)
        while self._asked:
            _answer(self._asked.popleft(), is_current=False)

    def close(self) -> None:
        """Stop reading. Questions that are open get false."""
        self.end(psycopg.OperationalError("the channel is closed"))
        # Nobody waits for it any more, so nobody takes its error.
        self._end.exception()

    def start(self) -> None:
        self._loop.add_reader(self._descriptor, self._read)
        self._read()

    def _ask(self) -> None:
        asked, self._gathering = self._gathering, None
        if asked is None:
            return
        if self._end.done():
            _answer(asked, is_current=False)
            return
        self._asked.append(asked)
        try:
            self._connection.pipeline_sync()
            self._connection.flush()
        except psycopg.Error as error:
            self.end(error)

    def _read(self) -> None:
        try:
            self._connection.consume_input()
            self._hand_over()
            while self._asked and not self._connection.is_busy():
                # Notifications that came before the answer are handed over before it.
                self._hand_over()
                result = self._connection.get_result()
                if result is None:
                    return
                if result.status == ExecStatus.PIPELINE_SYNC:
                    _answer(self._asked.popleft(), is_current=True)
        except psycopg.Error as error:
            self.end(error)

    def _hand_over(self) -> None:
        while (notification := self._connection.notifies()) is not None:
            self._received(notification.extra.decode())


def _answer(asked: "asyncio.Future[bool]", *, is_current: bool) -> None:
    if not asked.done():
        asked.set_result(is_current)


@asynccontextmanager
async def open_channel(conninfo: str, name: str, received: Callable[[str], None]) -> AsyncIterator[NotificationChannel]:
    """Open a connection, listen, and close it after the block.

    Raises:
        psycopg.Error: Postgres cannot be reached.
    """
    connection = await psycopg.AsyncConnection.connect(
        conninfo, autocommit=True, connect_timeout=_CONNECT_S, application_name=name
    )
    try:
        connection.add_notify_handler(lambda notification: received(notification.payload))
        await connection.execute(f"LISTEN {CHANNEL}")
        connection.pgconn.enter_pipeline_mode()
        channel = NotificationChannel(connection.pgconn, received)
        channel.start()
        try:
            yield channel
        finally:
            channel.close()
    finally:
        connection.pgconn.finish()

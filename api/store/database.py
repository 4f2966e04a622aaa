"""The engine and the unit of work."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session, sessionmaker

from api.domain.steps import Step
from api.settings import Settings


class Dispatcher(Protocol):
    """Send a step on a row to a worker. A message may be lost: the sweep finds the row later."""

    def __call__(self, step: Step, row_id: str) -> None: ...


class UnitOfWork:
    """One transaction, and the steps that are enqueued when it is committed."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._queued: list[tuple[Step, str]] = []

    def enqueue(self, step: Step, row_id: str) -> None:
        """Enqueue a step on a row, at most once in this transaction."""
        if (step, row_id) not in self._queued:
            self._queued.append((step, row_id))

    def queued(self) -> list[tuple[Step, str]]:
        return list(self._queued)


class Database:
    """Sessions of one Postgres.

    `dispatcher` is called after each commit, never inside a transaction.
    """

    def __init__(self, engine: Engine, dispatcher: Dispatcher) -> None:
        self.engine = engine
        self._sessions: Callable[[], Session] = sessionmaker(engine, expire_on_commit=False)
        self._dispatcher = dispatcher

    @contextmanager
    def unit_of_work(self) -> Iterator[UnitOfWork]:
        """Yield a unit of work.

        Commit at the end of the block and dispatch, or roll back on an exception.
        """
        with self._sessions() as session, session.begin():
            uow = UnitOfWork(session)
            yield uow
        for step, row_id in uow.queued():
            self._dispatcher(step, row_id)

    def dispose(self) -> None:
        self.engine.dispose()


def make_engine(settings: Settings) -> Engine:
    """Return an engine with a pool of `database_pool_size` connections.

    Every statement and every wait for a connection has a timeout.
    """
    milliseconds = int(settings.database_statement_timeout_s * 1000)
    return create_engine(
        settings.database_url,
        pool_size=settings.database_pool_size,
        max_overflow=0,
        pool_timeout=settings.database_statement_timeout_s,
        pool_pre_ping=True,
        # Errors are logged, and the log must not have what clients send.
        hide_parameters=True,
        connect_args={
            "connect_timeout": 5,
            "options": f"-c statement_timeout={milliseconds} -c idle_in_transaction_session_timeout={3 * milliseconds}"
            " -c timezone=utc",
            "keepalives": 1,
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
        },
    )

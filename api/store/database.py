"""The engine and the unit of work."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session, sessionmaker

from api.settings import Settings


class Bell(Protocol):
    """Tells a worker that a row wants a step. May be lost: the sweep finds what nobody was told of."""

    def __call__(self, step: str, row_id: str) -> None: ...


class UnitOfWork:
    """One transaction, and the bells to ring once it is committed."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._rings: list[tuple[str, str]] = []

    def ring(self, step: str, row_id: str) -> None:
        if (step, row_id) not in self._rings:
            self._rings.append((step, row_id))

    def rings(self) -> list[tuple[str, str]]:
        return list(self._rings)


class Database:
    """Sessions on one Postgres. `bell` is rung after each commit, never inside a transaction."""

    def __init__(self, engine: Engine, bell: Bell) -> None:
        self.engine = engine
        self._sessions: Callable[[], Session] = sessionmaker(engine, expire_on_commit=False)
        self._bell = bell

    @contextmanager
    def unit_of_work(self) -> Iterator[UnitOfWork]:
        """Commits at the end of the block, rolls back on any exception; then rings."""
        with self._sessions() as session, session.begin():
            uow = UnitOfWork(session)
            yield uow
        for step, row_id in uow.rings():
            self._bell(step, row_id)

    def dispose(self) -> None:
        self.engine.dispose()


def make_engine(settings: Settings) -> Engine:
    """A pool of `database_pool_size` connections; every statement and every wait for a connection has a timeout."""
    milliseconds = int(settings.database_statement_timeout_s * 1000)
    return create_engine(
        settings.database_url,
        pool_size=settings.database_pool_size,
        max_overflow=0,
        pool_timeout=settings.database_statement_timeout_s,
        pool_pre_ping=True,
        # Errors reach the log, and what clients send must not.
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

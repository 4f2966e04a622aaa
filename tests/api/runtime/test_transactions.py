"""Use cases in threads: limited in number, and given up when the database is silent."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import TimeoutError as DatabaseTimeoutError

from api.runtime.transactions import UseCaseRunner
from api.store.database import Database, UnitOfWork

LOCK = 4711


@pytest.fixture
def runner(database: Database) -> Iterator[UseCaseRunner]:
    runner = UseCaseRunner(database, at_once=2, within_s=0.5)
    yield runner
    runner.close()


@contextmanager
def silence(database: Database) -> Iterator[None]:
    """Until this ends, `slow` gets no answer."""
    with database.unit_of_work() as uow:
        uow.session.execute(text(f"SELECT pg_advisory_xact_lock({LOCK})"))
        yield


def slow(uow: UnitOfWork) -> int:
    uow.session.execute(text(f"SELECT pg_advisory_xact_lock({LOCK})"))
    return 1


def quick(uow: UnitOfWork) -> int:
    return int(uow.session.scalar(text("SELECT 2")) or 0)


def test_a_silent_database_holds_nobody_and_is_used_again_once_it_goes_on(database: Database, runner: UseCaseRunner) -> None:
    async def crowd() -> tuple[list[object], float]:
        started = time.monotonic()
        found = await asyncio.gather(*(runner.run(slow) for _ in range(20)), return_exceptions=True)
        return list(found), time.monotonic() - started

    with silence(database):
        found, seconds = asyncio.run(crowd())
        assert all(isinstance(item, DatabaseTimeoutError) for item in found)
        assert seconds < 4.5  # none waited for an answer, and the 18 that had no thread left the queue
        with pytest.raises(DatabaseTimeoutError):
            runner.run_blocking(quick)

    async def again() -> int:
        return await runner.run(quick)

    assert asyncio.run(again()) == 2
    assert runner.run_blocking(quick) == 2


def test_it_tells_how_many_use_cases_wait(database: Database, runner: UseCaseRunner) -> None:
    changes: list[int] = []
    runner.on_waiting = changes.append

    async def crowd() -> int:
        running = [asyncio.create_task(runner.run(slow)) for _ in range(5)]
        while changes.count(-1) < 2:
            await asyncio.sleep(0.01)
        waiting = sum(changes)
        await asyncio.gather(*running, return_exceptions=True)
        return waiting

    with silence(database):
        assert asyncio.run(crowd()) == 3, "two have a thread"
        assert sum(changes) == 0, "the others were given up"
    assert runner.run_blocking(quick) == 2
    assert sum(changes) == 0


def test_the_end_leaves_no_connection_of_a_caller_who_is_gone(postgres_url: str, database: Database) -> None:
    """A connection that is returned after the disposal of its pool stays open."""
    with silence(database):
        other = Database(create_engine(postgres_url, connect_args={"application_name": "ended"}), lambda _step, _row_id: None)
        runner = UseCaseRunner(other, at_once=2, within_s=20)

        async def leave() -> None:
            call = asyncio.create_task(runner.run(slow))
            while not open_connections(database):
                await asyncio.sleep(0.01)
            call.cancel()

        asyncio.run(leave())
        closing = threading.Thread(target=runner.close)
        closing.start()
    closing.join()
    other.dispose()
    end = time.monotonic() + 10
    while open_connections(database):  # a backend needs a moment to see that its client has left
        assert time.monotonic() < end, "a connection stays open"
        time.sleep(0.05)


def open_connections(database: Database) -> int:
    counted = text("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'ended'")
    with database.unit_of_work() as uow:
        return int(uow.session.scalar(counted) or 0)

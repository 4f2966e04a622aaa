"""Migrate a real database: from nothing, twice at once, and beside a transaction with a lock."""

import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic import command
from sqlalchemy import Engine, create_engine, text

from api.store.migration import Migration, MigrationError, migrate
from api.store.schema import alembic_config, newest_revision


@pytest.fixture
def empty_url(postgres_server: Engine) -> Iterator[str]:
    """Yield the URL of a database without tables."""
    name = f"test_{uuid.uuid4().hex}"
    with postgres_server.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    yield postgres_server.url.set(database=name).render_as_string(hide_password=False)
    with postgres_server.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")


def set_revision(url: str, revision: str) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})
    engine.dispose()


def test_a_second_run_changes_nothing(empty_url: str) -> None:
    head = newest_revision()
    assert migrate(empty_url) == Migration(None, head)
    assert migrate(empty_url) == Migration(head, head)


def test_of_two_at_once_one_migrates(empty_url: str) -> None:
    program = "import sys; from api.store.migration import migrate; print(migrate(sys.argv[1]).before)"
    running = [
        subprocess.Popen([sys.executable, "-c", program, empty_url], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    ended = [process.communicate(timeout=120) for process in running]
    assert [process.returncode for process in running] == [0, 0], ended
    assert sorted(out.strip() for out, _ in ended) == sorted(["None", str(newest_revision())])


def test_it_gives_way_to_a_transaction_that_holds_a_lock(empty_url: str) -> None:
    migrate(empty_url)
    command.downgrade(alembic_config(empty_url), "0007_initial_models")
    engine = create_engine(empty_url)
    with engine.begin() as connection:
        connection.execute(text("SELECT * FROM trainings"))
        with pytest.raises(MigrationError, match=r"held a table's lock for more than 0\.2 s"):
            migrate(empty_url, lock_timeout_s=0.2)
    engine.dispose()
    assert migrate(empty_url) == Migration("0007_initial_models", newest_revision())


def test_a_migration_waits_for_another_longer_than_for_a_lock(empty_url: str) -> None:
    waits = text(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND waitstart < clock_timestamp() - interval '0.5 s'"
    )
    engine = create_engine(empty_url, isolation_level="AUTOCOMMIT")
    with ThreadPoolExecutor() as pool, engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(726174)"))
        second = pool.submit(migrate, empty_url, lock_timeout_s=0.1)
        while not connection.scalar(waits):
            assert not second.done(), second.result()
            time.sleep(0.05)
        connection.execute(text("SELECT pg_advisory_unlock(726174)"))
        assert second.result(timeout=60) == Migration(None, newest_revision())
    engine.dispose()


def test_a_statement_has_a_limit(empty_url: str) -> None:
    engine = create_engine(empty_url)
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(726174)"))
        with pytest.raises(MigrationError, match=r"a statement took more than 0\.2 s"):
            migrate(empty_url, statement_timeout_s=0.2)
    engine.dispose()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql+psycopg://user:hidden@127.0.0.1:9/name", "cannot be reached: connection failed"),
        ("hidden", "must look like postgresql"),
        ("oracle9://hidden@127.0.0.1/name", "must look like postgresql"),
    ],
)
def test_what_is_no_database_is_told_without_its_password(url: str, message: str) -> None:
    with pytest.raises(MigrationError, match=message) as raised:
        migrate(url)
    assert "hidden" not in str(raised.value)


def test_an_older_release_refuses_a_newer_database(empty_url: str) -> None:
    migrate(empty_url)
    set_revision(empty_url, "9999_later")
    with pytest.raises(MigrationError, match="at revision 9999_later, which this release does not know"):
        migrate(empty_url)

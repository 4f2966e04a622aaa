"""A step that fails while the database is away releases its row once the database is back."""

import threading
import time
from pathlib import Path

from sqlalchemy import Engine, func, make_url

from api.store.database import Database
from api.store.tables import ClusterRow
from tests.api.store.rows import make_cluster, make_project
from tests.workers.steps.context import make_context
from workers.steps.shared.lease import under_lease

AWAY_S = 1.5
LEASE_S = 30.0


def close(server: Engine, name: str) -> None:
    """Refuse new connections to the database, and end the open ones."""
    with server.connect() as connection:
        connection.exec_driver_sql(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        connection.exec_driver_sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")


def reopen(server: Engine, name: str) -> None:
    with server.connect() as connection:
        connection.exec_driver_sql(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


def test_a_row_is_given_back_as_soon_as_the_database_is_there_again(
    database: Database, postgres_server: Engine, postgres_url: str, tmp_path: Path
) -> None:
    name = make_url(postgres_url).database or ""
    context = make_context(database, tmp_path, lease_s=LEASE_S)
    with database.unit_of_work() as uow:
        row = make_cluster(uow.session, make_project(uow.session))
        row.due_at = func.clock_timestamp()
        cluster_id = row.id

    def fail(_token: str) -> None:
        close(postgres_server, name)
        threading.Timer(AWAY_S, reopen, (postgres_server, name)).start()
        with database.unit_of_work() as uow:
            uow.session.get(ClusterRow, cluster_id)

    started = time.monotonic()
    under_lease(context, ClusterRow, cluster_id, fail)
    assert AWAY_S <= time.monotonic() - started < LEASE_S / 2
    with database.unit_of_work() as uow:
        row = uow.session.get_one(ClusterRow, cluster_id)
        assert (row.lease_token, row.lease_until) == (None, None)
        assert row.due_at is not None

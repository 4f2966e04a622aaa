"""Alembic's entry point.

The database's URL is `sqlalchemy.url` if a caller sets it, and else FLOW_NEXUS_DATABASE_URL.
"""

import os

from alembic import context
from sqlalchemy import NullPool, create_engine

from api.store.schema import LOCK_TIMEOUT_S, STATEMENT_TIMEOUT_S
from api.store.tables import Base


def _url() -> str:
    url = context.config.get_main_option("sqlalchemy.url") or os.environ.get("FLOW_NEXUS_DATABASE_URL")
    if not url:
        raise SystemExit("set FLOW_NEXUS_DATABASE_URL to the database to migrate")
    return url


def run() -> None:
    if context.is_offline_mode():
        context.configure(url=_url(), target_metadata=Base.metadata, literal_binds=True)
        with context.begin_transaction():
            context.run_migrations()
        return
    attributes = context.config.attributes
    statement_timeout = _milliseconds(attributes.get("statement_timeout_s", STATEMENT_TIMEOUT_S))
    lock_timeout = _milliseconds(attributes.get("lock_timeout_s", LOCK_TIMEOUT_S))
    arguments = {"connect_timeout": 5, "options": f"-c statement_timeout={statement_timeout}"}
    engine = create_engine(_url(), poolclass=NullPool, connect_args=arguments)
    with engine.connect() as connection:
        # Two processes that start at the same time must not migrate at the same time.
        connection.exec_driver_sql("SELECT pg_advisory_lock(726_174)")
        connection.exec_driver_sql(f"SET lock_timeout = {lock_timeout}")
        # The lock and the setting belong to the session. Each migration has its own transaction.
        connection.commit()
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            compare_type=True,
            compare_server_default=True,
            transaction_per_migration=True,
        )
        attributes["revision_before"] = context.get_context().get_current_revision()
        connection.commit()
        with context.begin_transaction():
            context.run_migrations()
        connection.commit()


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


run()

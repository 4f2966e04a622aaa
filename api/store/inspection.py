"""What a database server says of itself, for the operator."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from api.store import heartbeats

_SERVER: Final = text(
    "SELECT current_setting('server_version') AS version, current_setting('server_encoding') AS encoding,"
    " current_setting('max_connections')::int AS max_connections, pg_is_in_recovery() AS is_replica,"
    " to_regclass('alembic_version') IS NOT NULL AS has_tables, clock_timestamp() AS now"
)
_REVISION: Final = text("SELECT version_num FROM alembic_version")
# With several rights in one call, one of them would be enough.
_RIGHTS: Final = text(
    "SELECT has_table_privilege('trainings', 'SELECT') AND has_table_privilege('trainings', 'INSERT')"
    " AND has_table_privilege('trainings', 'UPDATE') AND has_table_privilege('trainings', 'DELETE')"
)


@dataclass(frozen=True, slots=True)
class DatabaseFacts:
    """`revision` is None without tables. `may_write` is then true."""

    version: str
    encoding: str
    max_connections: int
    is_replica: bool
    revision: str | None
    may_write: bool
    now: datetime


def inspect(engine: Engine) -> DatabaseFacts:
    """Ask the server. Change nothing."""
    with engine.connect() as connection:
        server = connection.execute(_SERVER).one()
        revision = connection.execute(_REVISION).scalar() if server.has_tables else None
        return DatabaseFacts(
            version=server.version,
            encoding=server.encoding,
            max_connections=server.max_connections,
            is_replica=server.is_replica,
            revision=revision,
            may_write=bool(connection.execute(_RIGHTS).scalar()) if revision else True,
            now=server.now,
        )


def seconds_since_step(engine: Engine) -> float | None:
    """Return the seconds since a Celery worker last took a step. None if none was taken yet."""
    with Session(engine) as session:
        return heartbeats.age_s(session)

"""Every row of a database at one moment: read for a backup, and written by a restore.

Rows travel in the text form of COPY. It is the same in all versions of PostgreSQL, and needs no
program of its own.
"""

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, cast

import psycopg
import sqlalchemy
from alembic import command
from psycopg import sql
from sqlalchemy import Connection, Engine, func, select, text

from api.store.migration import migrate
from api.store.schema import alembic_config, newest_revision
from api.store.tables import Base, ModelRow

# The order of foreign keys: a row comes after those that it names.
_TABLES: Final = tuple(Base.metadata.sorted_tables)


class SnapshotError(Exception):
    """The database cannot be read or written. The message is for the operator, without a secret."""


@dataclass(frozen=True, slots=True)
class TableShape:
    """A table and its columns, in the order of its rows."""

    name: str
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StoredModel:
    """An exported model that has a file. `sha256` is that of the file."""

    model_id: str
    sha256: str


class Snapshot:
    """The rows of one moment. Later changes are not seen."""

    def __init__(self, connection: psycopg.Connection, models: Sequence[StoredModel]) -> None:
        self.models = models
        self.tables = tuple(TableShape(table.name, tuple(column.name for column in table.columns)) for table in _TABLES)
        self._connection = connection

    def rows(self, table: TableShape) -> Iterator[bytes]:
        """Yield a table's rows in the text form of COPY."""
        with self._connection.cursor().copy(_statement(table, "TO STDOUT")) as copy:
            for data in copy:
                yield bytes(data)


@contextmanager
def taken(engine: Engine) -> Iterator[Snapshot]:
    """Yield a snapshot. The service may go on meanwhile.

    Raises:
        SnapshotError: The database has the tables of another release.
    """
    with engine.connect().execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True) as connection:
        version = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
        if version != newest_revision():
            raise SnapshotError(
                f"the database is at {version}, this release needs {newest_revision()}; run `flow-nexus migrate`"
            )
        finished = select(ModelRow.id, ModelRow.sha256).where(ModelRow.status == "completed", ModelRow.sha256.is_not(None))
        models = [StoredModel(model_id, str(sha256)) for model_id, sha256 in connection.execute(finished)]
        connection.exec_driver_sql("SET statement_timeout = 0")
        connection.exec_driver_sql("SET idle_in_transaction_session_timeout = 0")
        yield Snapshot(_psycopg(connection), models)


def rows_in(engine: Engine) -> int:
    """Return the number of rows in all tables. A database without tables has none."""
    present = set(sqlalchemy.inspect(engine).get_table_names())
    with engine.connect() as connection:
        return sum(
            int(connection.scalar(select(func.count()).select_from(table)) or 0) for table in _TABLES if table.name in present
        )


def users(engine: Engine) -> int:
    """Return the number of other connections to the database by the same user."""
    others = text(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()"
    )
    with engine.connect() as connection:
        return int(connection.scalar(others) or 0)


def load(engine: Engine, revision: str, tables: Iterable[TableShape], rows: Callable[[TableShape], Iterable[bytes]]) -> None:
    """Replace everything in the database by these rows of a revision, then migrate to the newest.

    Raises:
        SnapshotError: The rows do not fit the tables.
        MigrationError: The tables could not be made.
    """
    config = alembic_config(engine.url, stdout=io.StringIO())
    if sqlalchemy.inspect(engine).has_table("alembic_version"):
        command.downgrade(config, "base")
    command.upgrade(config, revision)
    with engine.begin() as connection:
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        cursor = _psycopg(connection).cursor()
        for table in tables:
            try:
                with cursor.copy(_statement(table, "FROM STDIN")) as copy:
                    for data in rows(table):
                        copy.write(data)
            except psycopg.Error as error:
                raise SnapshotError(f"the rows of {table.name} cannot be written: {type(error).__name__}") from error
    migrate(engine.url)


def _statement(table: TableShape, direction: str) -> sql.Composed:
    columns = sql.SQL(", ").join(map(sql.Identifier, table.columns))
    return sql.SQL("COPY {} ({}) {}").format(sql.Identifier(table.name), columns, sql.SQL(direction))


def _psycopg(connection: Connection) -> psycopg.Connection:
    return cast("psycopg.Connection", connection.connection.driver_connection)

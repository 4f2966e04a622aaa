"""Triggers notify the API of each change that a kept answer may show."""

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy import DateTime, delete, func, inspect, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import LargeBinary, Numeric

from api.store.columns import Typed
from api.store.database import Database, UnitOfWork
from api.store.events import CHANGE_MARK, CHANNEL
from api.store.tables import Base, ClusterRow, Leased, NodeRow, RoundNodeRow, RoundRow, TrainingRow
from tests.api.store.rows import make_cluster, make_node, make_project, make_training

LEASE = set(Leased.__annotations__)
# These columns change all the time, and no kept answer shows them.
SILENT: dict[type[Base], set[str]] = {
    ClusterRow: LEASE | {"event_seq", "last_call_at"},
    NodeRow: LEASE | {"sandbox_expires_at"},
    TrainingRow: LEASE,
    RoundRow: set(),
    RoundNodeRow: set(),
}


class Rows:
    """A cluster with one row of each kind, and the notifications of changes."""

    def __init__(self, database: Database, connection: "psycopg.Connection[Any]") -> None:
        self.database = database
        self.connection = connection
        with database.unit_of_work() as uow:
            self.project_id = make_project(uow.session)
            cluster = make_cluster(uow.session, self.project_id)
            node = make_node(uow.session, cluster, "aggregator")
            training = make_training(uow.session, cluster, node)
            self.cluster_id, self.node_id, self.training_id = cluster.id, node.id, training.id
            uow.session.add(RoundRow(training_id=training.id, number=1, status="running", base_digest="0"))
            uow.session.flush()
            uow.session.add(RoundNodeRow(training_id=training.id, number=1, node_id=node.id, state="training"))

    def announced(self, work: Callable[[UnitOfWork], object]) -> set[str]:
        """Do the work in one transaction and return the ids that it has announced."""
        self._arrived()
        with self.database.unit_of_work() as uow:
            work(uow)
        payloads = [payload for payload in self._arrived() if payload.startswith(CHANGE_MARK)]
        return {row_id for payload in payloads for row_id in payload.split()[1:]}

    def _arrived(self) -> list[str]:
        """Return the notifications that were sent until now. They arrive before an answer."""
        self.connection.execute("SELECT 1")
        return [one.payload for one in self.connection.notifies(timeout=0)]

    def changed(self, table: type[Base], values: dict[str, Any]) -> set[str]:
        return self.announced(lambda uow: uow.session.execute(update(table).values(values)))

    def concerned(self, table: type[Base]) -> set[str]:
        if table is ClusterRow:
            return {self.cluster_id, self.project_id}
        if table is NodeRow:
            return {self.cluster_id}
        return {self.cluster_id, self.project_id, self.training_id} if table is TrainingRow else {self.training_id}


@pytest.fixture
def rows(database: Database, postgres_url: str) -> Iterator[Rows]:
    with database.unit_of_work() as uow:
        for table in reversed(SILENT):
            uow.session.execute(delete(table))
    with psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f"LISTEN {CHANNEL}")
        yield Rows(database, connection)


def another(column: Any) -> Any:
    """Return a value that the column does not have here. None: its values are fixed by a rule."""
    kind = column.type
    if column.primary_key or column.foreign_keys or column.name in ("status", "state"):
        return None
    if isinstance(kind, Typed | JSONB):
        return func.jsonb_build_array("changed")
    if isinstance(kind, DateTime):
        return func.now() - func.make_interval(0, 0, 0, 1)
    if isinstance(kind, LargeBinary):
        return b"changed"
    python_type = kind.python_type
    if isinstance(kind, Numeric) or python_type in (int, float):
        return 0.25 if python_type is float else 7
    return True if python_type is bool else "changed"


@pytest.mark.parametrize("table", SILENT)
def test_each_column_is_announced_or_silent(rows: Rows, table: type[Base]) -> None:
    tried = 0
    for column in inspect(table).columns:
        value = another(column)
        if value is None:
            continue
        expected = set() if column.name in SILENT[table] else rows.concerned(table)
        assert rows.changed(table, {column.name: value}) == expected, f"{table.__tablename__}.{column.name}"
        tried += 1
    assert tried >= 7


@pytest.mark.parametrize("table", SILENT)
def test_an_update_without_a_change_is_silent(rows: Rows, table: type[Base]) -> None:
    column = next(column for column in inspect(table).columns if column.primary_key)
    assert rows.changed(table, {column.name: column}) == set()


def test_new_and_deleted_rows_are_announced(rows: Rows) -> None:
    seen: list[str] = []

    def create(uow: UnitOfWork) -> None:
        cluster = make_cluster(uow.session, rows.project_id)
        node = make_node(uow.session, cluster, "aggregator")
        training = make_training(uow.session, cluster, node)
        seen.extend((cluster.id, training.id))

    assert rows.announced(create) == {*seen, rows.project_id}
    assert rows.announced(lambda uow: uow.session.execute(delete(RoundNodeRow))) == {rows.training_id}
    assert rows.announced(lambda uow: uow.session.execute(delete(RoundRow))) == {rows.training_id}

"""Migrations with data in every table, beginning with a database of an early release."""

import re
import uuid
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    DateTime,
    Engine,
    Enum,
    Float,
    Integer,
    LargeBinary,
    Numeric,
    Text,
    create_engine,
    func,
    insert,
    inspect,
    select,
    text,
)

from api.domain.scopes import SCOPES
from api.main import create_app
from api.services import keys
from api.store.database import Database
from api.store.migration import migrate
from api.store.schema import alembic_config
from api.store.tables import Base
from tests.api.routes.conftest import make_settings, serving

FIRST_REVISION = "0001"
FIRST_ROWS = (Path(__file__).parent / "7cdd1f0.sql").read_text()
VERSION = "alembic_version"
# Rows of these types fill a table that the early release did not have.
SAMPLES: dict[type, Any] = {
    Text: "text",
    Boolean: True,
    Integer: 1,
    Float: 1.0,
    Numeric: Decimal(1),
    DateTime: func.now(),
    LargeBinary: b"bytes",
}


@pytest.fixture
def empty_url(postgres_server: Engine) -> Iterator[str]:
    """Yield the URL of a database without tables."""
    name = f"test_{uuid.uuid4().hex}"
    with postgres_server.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    yield postgres_server.url.set(database=name).render_as_string(hide_password=False)
    with postgres_server.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def url(empty_url: str) -> str:
    """Return the URL of a database with the tables and the rows of commit 7cdd1f0."""
    command.upgrade(alembic_config(empty_url), FIRST_REVISION)
    add_first_rows(empty_url)
    return empty_url


def add_first_rows(url: str) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql(FIRST_ROWS)
    engine.dispose()


def counts(url: str) -> dict[str, int]:
    """Return the number of rows of each table, but not of Alembic's."""
    engine = create_engine(url)
    names = set(inspect(engine).get_table_names()) - {VERSION}
    with engine.connect() as connection:
        found = {name: int(connection.scalar(text(f"SELECT count(*) FROM {name}")) or 0) for name in names}
    engine.dispose()
    return found


def fill_empty_tables(url: str) -> None:
    """Give each table without a row one row."""
    engine = create_engine(url)
    with engine.begin() as connection:
        for table in Base.metadata.sorted_tables:
            if not connection.scalar(select(func.count()).select_from(table)):
                values = {column: sample(connection, column) for column in table.columns if is_required(column)}
                connection.execute(insert(table).values(values))
    engine.dispose()


def is_required(column: Column[Any]) -> bool:
    return not column.nullable and column.server_default is None


def sample(connection: Connection, column: Column[Any]) -> Any:
    """Return a value that the column takes: another table's key, a word of its set, or any."""
    for key in column.foreign_keys:
        return connection.scalar(select(key.column).limit(1))
    if isinstance(column.type, Enum):
        return column.type.enums[0]
    return next((value for kind, value in SAMPLES.items() if isinstance(column.type, kind)), [])


def test_the_early_rows_are_in_every_table_of_their_time(url: str) -> None:
    assert min(counts(url).values()) > 0


def test_every_row_survives_each_step_up_and_all_steps_down(url: str) -> None:
    config = alembic_config(url)
    revisions = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()][::-1]
    assert revisions[0] == FIRST_REVISION
    before = counts(url)
    for revision in revisions[1:]:
        command.upgrade(config, revision)
        after = counts(url)
        assert {name: after[name] for name in before} == before, revision
    fill_empty_tables(url)
    full = counts(url)
    assert min(full.values()) > 0
    for revision in reversed(revisions[:-1]):
        command.downgrade(config, revision)
        left = counts(url)
        assert left == {name: full[name] for name in left}, revision
    command.downgrade(config, "base")
    assert counts(url) == {}
    migrate(url)


def test_what_an_older_release_writes_fits_the_newest_tables(empty_url: str) -> None:
    """An older release serves while the database is migrated. So new columns have defaults."""
    migrate(empty_url)
    add_first_rows(empty_url)
    written = counts(empty_url)
    assert {name for name, count in written.items() if count} == set(
        re.findall(r"^INSERT INTO (\w+)", FIRST_ROWS, re.MULTILINE)
    )


def test_the_api_shows_every_resource_of_an_early_database(url: str, tmp_path: Path) -> None:
    assert migrate(url).before == FIRST_REVISION
    settings = make_settings(url, tmp_path)
    engine = create_engine(url)
    with Database(engine, lambda _step, _row_id: None).unit_of_work() as uow:
        secret = keys.create(uow.session, settings, "default", keys.KeySpec("test", SCOPES)).secret
    with engine.connect() as connection:
        ids = {
            noun: list(connection.scalars(text(f"SELECT id FROM {noun}")))
            for noun in ("clusters", "nodes", "trainings", "searches", "predictions", "models")
        }
    engine.dispose()
    with serving(create_app(settings)) as base, httpx.Client(base_url=base, timeout=60) as client:
        client.headers["Authorization"] = f"Bearer {secret}"

        def get(path: str) -> Any:
            answer = client.get(f"/v1/{path}")
            assert answer.status_code == 200, f"{path}: {answer.text}"
            return answer.json()

        for noun, some in ids.items():
            assert some
            for one in some:
                assert one in get(f"{noun}/{one}").values()
        for cluster_id in ids["clusters"]:
            for part in ("status", "nodes", "connections", "events/page"):
                get(f"clusters/{cluster_id}/{part}")
        for node_id in ids["nodes"]:
            get(f"nodes/{node_id}/rounds")
        rounds = [get(f"trainings/{training_id}/rounds")["items"] for training_id in ids["trainings"]]
        assert any(one["votes"] or one["audits"] for some in rounds for one in some)
        for training_id in ids["trainings"]:
            get(f"trainings/{training_id}/curves")
            get(f"trainings/{training_id}/events/page")
        for noun in ("clusters", "trainings", "searches", "models", "keys", "audit", "project", "sandboxes"):
            get(noun)

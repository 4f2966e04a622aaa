"""The log of the embedded Postgres has no value of a statement that it refused."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

from api.embedded import environment, postgres
from api.embedded.state_folder import StateFolder
from api.embedded.supervisor import Supervisor
from tests.canary import SENTENCE, Canary

_REFUSED = (
    # The database quotes the value: in the message, in its details, and with the statement.
    ("SELECT CAST(:value AS integer)", SENTENCE),
    ("SELECT CAST(:value AS jsonb)", f'{{"text": "{SENTENCE}'),
    ("SELECT CAST(:value AS jsonb)", f'{{"text": "{SENTENCE} \\u0000"}}'),
    (f"SELECT '{SENTENCE}'::integer, :value", "x"),
    ("INSERT INTO unique_texts VALUES (:value), (:value)", SENTENCE),
)


@pytest.fixture
def folder() -> Iterator[StateFolder]:
    # The path of a socket is short, because the kernel allows about a hundred characters.
    with tempfile.TemporaryDirectory(prefix="postgres-") as path:
        state = StateFolder(Path(path))
        with state.locked(lambda: False):
            yield state


def test_a_refused_statement_leaves_no_value_in_the_log(folder: StateFolder, tmp_path: Path) -> None:
    messages: list[str] = []
    with folder.socket_folder() as sockets, (tmp_path / "lock").open("w") as lock:
        supervisor = Supervisor(messages.append, lock.fileno(), lambda: False)
        try:
            supervisor.start(postgres.prepare(folder, sockets, environment.plain(), messages.append))
            engine = create_engine(postgres.url(sockets))
            with engine.begin() as connection:
                connection.execute(text("CREATE TABLE unique_texts (value text UNIQUE)"))
            for statement, value in _REFUSED:
                with pytest.raises(DBAPIError), engine.begin() as connection:
                    connection.execute(text(statement), {"value": value})
            engine.dispose()
            time.sleep(0.2)
        finally:
            supervisor.stop()
    log = folder.log_path("postgres").read_bytes()
    assert b"ready to accept connections" in log
    assert Canary().found_in(log) == []

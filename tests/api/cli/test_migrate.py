"""`flow-nexus migrate`: one line, and exit code 0 also when there is nothing to do."""

import uuid

import pytest
from sqlalchemy import Engine

from api.cli.main import main
from api.store.schema import newest_revision

_VARIABLE = "FLOW_NEXUS_DATABASE_URL"


def test_an_empty_database_is_migrated_once(
    postgres_server: Engine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"test_{uuid.uuid4().hex}"
    with postgres_server.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    monkeypatch.setenv(_VARIABLE, postgres_server.url.set(database=name).render_as_string(hide_password=False))
    head = newest_revision()
    assert main(["migrate"]) == 0
    assert capsys.readouterr().out == f"the database went from no tables to {head}\n"
    assert main(["migrate"]) == 0
    assert capsys.readouterr() == (f"the database is already at {head}\n", "")
    with postgres_server.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")


def test_without_a_database_it_says_what_is_wrong(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv(_VARIABLE, raising=False)
    assert main(["migrate"]) == 2
    assert capsys.readouterr().err == f"error: set {_VARIABLE} to the database to migrate\n"
    monkeypatch.setenv(_VARIABLE, "postgresql+psycopg://user:hidden@127.0.0.1:9/name")
    assert main(["migrate"]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("error: the database cannot be reached")
    assert "hidden" not in err

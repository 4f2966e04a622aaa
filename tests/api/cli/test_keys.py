"""`flow-nexus keys` works on the database itself, for whoever runs the deployment."""

import json
from pathlib import Path
from typing import Any

import pytest

from api.services import keys
from api.settings import Settings
from api.store.database import Database
from tests.api.cli.talking import run

SECRET = "s" * 32


@pytest.fixture
def operator(alone: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of `operator.env`."""
    for name, value in {
        "DATABASE_URL": postgres_url,
        "SECRET_KEY": SECRET,
        "REDIS_URL": "redis://127.0.0.1:9/0",
        "MODELS_DIR": str(alone),
        "E2B_API_KEY": "e2b_0",
    }.items():
        monkeypatch.setenv(f"FLOW_NEXUS_{name}", value)


def answer(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert run("keys", *words) == 0
    out, err = capsys.readouterr()
    assert err == ""
    found: dict[str, Any] = json.loads(out)
    return found


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = run("keys", *words)
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    assert err.count("\n") == 1, err
    assert SECRET not in err
    return code, err


@pytest.mark.usefixtures("operator")
def test_a_key_is_made_listed_without_its_secret_used_and_revoked(
    capsys: pytest.CaptureFixture[str], database: Database
) -> None:
    made = answer(capsys, "create", "--project", "acme", "--name", "ci", "--scopes", "clusters:read, data:write")
    assert (made["project"], made["name"], made["scopes"]) == ("acme", "ci", ["clusters:read", "data:write"])
    assert made["api_key"].startswith("fnx_")

    def principal() -> keys.Principal | None:
        with database.unit_of_work() as uow:
            return keys.authenticate(uow.session, Settings(), made["api_key"])

    found = principal()
    assert found is not None
    assert found.scopes == {"clusters:read", "data:write"}
    listed = answer(capsys, "list", "--project", "acme")["items"]
    assert [item["key_id"] for item in listed] == [made["key_id"]]
    assert made["api_key"] not in json.dumps(listed)
    assert answer(capsys, "list", "--project", "nobody")["items"] == []
    for _ in range(2):
        assert answer(capsys, "revoke", "--key-id", made["key_id"])["status"] == "revoked"
    assert principal() is None


@pytest.mark.usefixtures("operator")
def test_a_key_has_all_scopes_and_no_end_unless_they_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    made = answer(capsys, "create")
    assert (made["project"], frozenset(made["scopes"]), made["expires_at"]) == ("default", keys.SCOPES, None)
    assert answer(capsys, "create", "--expires-days", "30")["expires_at"].endswith("Z")


@pytest.mark.usefixtures("operator")
@pytest.mark.parametrize(
    "words",
    [
        ("create", "--scopes", "nonsense"),
        ("create", "--scopes", ""),
        ("create", "--scopes", " , "),
        ("create", "--expires-days", "0"),
        ("create", "--expires-days", "soon"),
        ("create", "--project", ""),
        ("create", "--project", "\udcff"),
        ("create", "--name", " "),
        ("create", "--name", "a\nb"),
        ("revoke",),
        ("revoke", "--key-id", "key_nobody"),
    ],
)
def test_wrong_words_are_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
    assert refused(capsys, *words)[0] == 2


@pytest.mark.usefixtures("alone")
def test_settings_that_are_missing_are_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "SECRET_KEY"):
        monkeypatch.delenv(f"FLOW_NEXUS_{name}", raising=False)
    code, line = refused(capsys, "list")
    assert code == 2
    assert "FLOW_NEXUS_DATABASE_URL" in line
    assert "FLOW_NEXUS_SECRET_KEY" in line


@pytest.mark.usefixtures("operator")
def test_a_database_that_is_away_is_one_line_and_exit_code_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLOW_NEXUS_DATABASE_URL", f"postgresql+psycopg://user:{SECRET}@127.0.0.1:9/x")
    code, line = refused(capsys, "list")
    assert code == 1
    assert "the database cannot be used" in line

"""`flow-nexus keys` and `projects`: the API for an admin, the database for the operator."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from api.cli.main import main
from api.domain.scopes import EXPORT, SCOPES
from api.services import keys
from api.settings import Settings
from api.store.database import Database

Run = Callable[..., Any]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs a command and returns its JSON, or its stderr if it fails."""

    def play(*arguments: str, code: int = 0) -> Any:
        exit_code = main(arguments)
        output = capsys.readouterr()
        assert exit_code == code, output
        return json.loads(output.out) if code == 0 else output.err

    return play


@pytest.fixture
def admin(database: Database, settings: Settings, url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Set the environment of a project's admin; return the key."""
    with database.unit_of_work() as uow:
        issued = keys.create(uow.session, settings, "acme", keys.KeySpec("admin", ["admin"]))
    monkeypatch.setenv("FLOW_NEXUS_URL", url)
    monkeypatch.setenv("FLOW_NEXUS_API_KEY", issued.secret)
    return issued.secret


@pytest.fixture
def operator(postgres_url: str, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the environment of `<home>/operator.env`."""
    for name, value in (
        ("DATABASE_URL", postgres_url),
        ("SECRET_KEY", settings.secret_key.get_secret_value()),
        ("REDIS_URL", settings.redis_url),
        ("MODELS_DIR", str(settings.models_dir)),
        ("E2B_API_KEY", "e2b_0"),
    ):
        monkeypatch.setenv(f"FLOW_NEXUS_{name}", value)


def status(url: str, secret: str) -> int:
    return httpx.get(f"{url}/v1/clusters", headers={"Authorization": f"Bearer {secret}"}).status_code


def test_a_keys_life_through_the_api(run: Run, admin: str, url: str) -> None:
    issued = run("keys", "create", "--name", "ci", "--scopes", "clusters:read, models:read", "--expires-days", "3")
    assert issued["scopes"] == ["clusters:read", "models:read"]
    assert issued["expires_at"] is not None
    assert status(url, issued["api_key"]) == 200
    rotated = run("keys", "rotate", "--key-id", issued["key_id"])
    assert (status(url, issued["api_key"]), status(url, rotated["api_key"])) == (401, 200)
    overlapping = run("keys", "rotate", "--key-id", issued["key_id"], "--overlap", "60")
    assert (status(url, rotated["api_key"]), status(url, overlapping["api_key"])) == (200, 200)
    assert run("keys", "revoke", "--key-id", issued["key_id"])["status"] == "revoked"
    assert status(url, overlapping["api_key"]) == 401
    listed = run("keys", "list")["items"]
    assert issued["key_id"] in {item["key_id"] for item in listed}
    assert "api_key" not in str(listed)


def test_without_scopes_a_key_has_all_but_export(run: Run, admin: str) -> None:
    assert run("keys", "create")["scopes"] == sorted(SCOPES - {EXPORT})


def test_what_the_api_refuses_is_a_complaint(run: Run, admin: str) -> None:
    assert "scope_not_held" in run("keys", "create", "--scopes", EXPORT, code=2)
    assert "not_found" in run("keys", "rotate", "--key-id", "key_unknown", code=2)
    assert "not_found" in run("keys", "create", "--node-id", "node_unknown", code=2)


@pytest.mark.usefixtures("operator")
def test_the_operator_makes_projects_and_turns_any_key(run: Run, url: str) -> None:
    issued = run("keys", "create", "--project", "new", "--scopes", f"admin,{EXPORT}")
    assert (issued["project"], issued["scopes"]) == ("new", ["admin", EXPORT])
    assert status(url, issued["api_key"]) == 200
    assert [item["key_id"] for item in run("keys", "list", "--project", "new")["items"]] == [issued["key_id"]]
    rotated = run("keys", "rotate", "--operator", "--key-id", issued["key_id"])
    assert (status(url, issued["api_key"]), status(url, rotated["api_key"])) == (401, 200)
    assert run("keys", "revoke", "--operator", "--key-id", issued["key_id"])["status"] == "revoked"
    assert status(url, rotated["api_key"]) == 401
    assert len(run("keys", "list", "--operator")["items"]) > 1


@pytest.mark.usefixtures("operator")
def test_the_operator_sets_quotas_and_the_project_sees_them(run: Run, admin: str) -> None:
    run("projects", "quota", "--project", "acme", "--set", "nodes=2", "--set", "spend_usd=1.5", "--set", "clusters=none")
    quotas = run("projects", "show")["quotas"]
    assert {name: quotas[name]["limit"] for name in ("nodes", "spend_usd", "clusters")} == {
        "nodes": 2,
        "spend_usd": 1.5,
        "clusters": None,
    }
    run("projects", "quota", "--project", "acme", "--set", "nodes=default", "--set", "clusters=default")
    assert run("projects", "show")["quotas"]["nodes"]["limit"] == 1000
    for wrong in ("nodes", "nodes=-1", "nodes=many", "nodes=nan", "gold=1"):
        run("projects", "quota", "--project", "acme", "--set", wrong, code=2)
    run("projects", "quota", "--project", "nobody", "--set", "nodes=1", code=2)


def test_the_operators_commands_say_what_they_lack(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "SECRET_KEY", "REDIS_URL", "MODELS_DIR"):
        monkeypatch.delenv(f"FLOW_NEXUS_{name}", raising=False)
    assert "FLOW_NEXUS_DATABASE_URL" in run("keys", "list", "--operator", code=2)


@pytest.mark.usefixtures("admin")
def test_people_see_tables(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (("keys", "list"), ("projects", "show")):
        assert main([*arguments, "--format", "table"]) == 0
        output = capsys.readouterr()
        assert "fnx_" in output.out or "running_sandboxes" in output.out

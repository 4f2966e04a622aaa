"""`flow-nexus webhooks` against a real API."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from api.cli.main import main
from api.services import keys
from api.settings import Settings
from api.store.database import Database
from tests.api.routes.calls import PUBLIC_URL

Run = Callable[..., Any]


@pytest.fixture
def run(
    database: Database, settings: Settings, url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Run:
    """Return a function that runs `webhooks …` as an admin. It returns the JSON, or stderr."""
    with database.unit_of_work() as uow:
        issued = keys.create(uow.session, settings, "acme", keys.KeySpec("admin", ["admin"]))
    monkeypatch.setenv("FLOW_NEXUS_URL", url)
    monkeypatch.setenv("FLOW_NEXUS_API_KEY", issued.secret)

    def play(*arguments: str, code: int = 0) -> Any:
        exit_code = main(["webhooks", *arguments, "--format", "json"])
        output = capsys.readouterr()
        assert exit_code == code, output
        return json.loads(output.out) if code == 0 else output.err

    return play


def test_a_webhook_from_its_creation_to_its_end(run: Run) -> None:
    created = run("create", "--address", PUBLIC_URL, "--events", "training.*, node.lost")
    assert created["secret"].startswith("whsec_")
    assert created["event_types"] == ["node.lost", "training.*"]
    webhook_id = created["webhook_id"]
    assert [found["webhook_id"] for found in run("list")["items"]] == [webhook_id]
    assert run("status", webhook_id)["secret"] is None
    assert run("update", webhook_id, "--name", "chat", "--events", "round.*")["event_types"] == ["round.*"]
    delivery = run("test", webhook_id, "--wait", "0")
    assert delivery["status"] == "pending"
    assert [found["delivery_id"] for found in run("deliveries", webhook_id)["items"]] == [delivery["delivery_id"]]
    assert run("update", webhook_id, "--off")["enabled"] is False
    assert "webhook_disabled" in run("redeliver", webhook_id, delivery["delivery_id"], code=2)
    run("update", webhook_id, "--on")
    assert run("redeliver", webhook_id, delivery["delivery_id"])["status"] == "pending"
    assert run("delete", webhook_id) == {"webhook_id": webhook_id, "status": "deleted"}
    assert run("list")["items"] == []


def test_a_refusal_says_where_and_what(run: Run) -> None:
    refusal = run("create", "--address", "http://10.0.0.1/", "--events", "round.*", code=2)
    assert "webhook_url_refused" in refusal
    assert "public address" in refusal
    refusal = run("create", "--address", PUBLIC_URL, "--events", "rounds", code=2)
    assert "/event_types/0" in refusal

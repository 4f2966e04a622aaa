"""Executions over HTTP: who may see them, and their output as events.

A thread does what workers do.
"""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import func, select

from api.cli.http import sse
from api.domain.scopes import EXPORT, SCOPES
from api.settings import Settings
from api.store.tables import ExecutionRow
from tests.api.routes import real
from tests.api.routes.conftest import MakeUser, make_settings
from tests.api.routes.user import User
from tests.workers.sandboxes.hosting import API_KEY, Host
from workers.context import Context
from workers.sandboxes.client import SandboxClient
from workers.steps import executions as steps


@pytest.fixture(scope="module")
def settings(postgres_url: str, host: Host, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    addresses = {"E2B_API_KEY": API_KEY, "E2B_API_URL": host.url, "E2B_SANDBOX_URL": host.url}
    return make_settings(postgres_url, tmp_path_factory.mktemp("models"), quota_executions=3, **addresses)


@pytest.fixture
def node(settings: Settings, user: User) -> str:
    return real.start(settings, user, node_type="parameter_server")


@contextmanager
def worker(settings: Settings, user: User) -> Iterator[None]:
    """Run the steps of due executions in a thread."""
    context = Context(settings, user.rows, SandboxClient(settings))
    ending = threading.Event()

    def work() -> None:
        while not ending.is_set():
            with user.rows.unit_of_work() as uow:
                due = uow.session.scalars(select(ExecutionRow.id).where(ExecutionRow.due_at <= func.now())).all()
            for execution_id in due:
                steps.advance(context, execution_id)
            ending.wait(0.05)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join(30)


def start(user: User, node: str, code: str, status: int = 202, **options: Any) -> dict[str, Any]:
    body = {"code": code, "language": "bash", **options.pop("body", {})}
    answer: dict[str, Any] = user.call("POST", f"/v1/sandboxes/{node}/executions", status, json=body, **options)
    return answer


def events(user: User, execution_id: str, query: str = "", headers: dict[str, str] | None = None) -> list[sse.Event]:
    path = f"/v1/executions/{execution_id}/events{query}"
    with user.http.stream("GET", path, headers=headers or {}) as answer:
        assert answer.status_code == 200
        return [event for event in sse.parse(answer.iter_bytes()) if event is not None]


def text(found: list[sse.Event], stream: str) -> str:
    outputs = [json.loads(event.data) for event in found if event.event == "output"]
    return "".join(output["text"] for output in outputs if output["stream"] == stream)


def test_it_is_accepted_followed_and_told(settings: Settings, user: User, node: str) -> None:
    answer = user.http.post(
        f"/v1/sandboxes/{node}/executions", json={"code": "echo é; sleep 1; echo b >&2; exit 3", "language": "bash"}
    )
    execution = answer.json()
    path = f"/v1/executions/{execution['execution_id']}"
    assert (answer.status_code, answer.headers["location"]) == (202, path)
    assert (execution["status"], execution["stdout"], execution["node_id"]) == ("pending", None, node)
    with worker(settings, user):
        found = events(user, execution["execution_id"])
    assert (text(found, "stdout"), text(found, "stderr")) == ("é\n", "b\n")
    last = json.loads(found[-1].data)
    assert found[-1].event == "execution.completed"
    assert (last["exit_code"], last["stdout_bytes"], last["stderr_bytes"]) == (3, 3, 2)
    told = user.call("GET", path, 200)
    assert (told["status"], told["exit_code"], told["stdout"], told["stderr"]) == ("completed", 3, "é\n", "b\n")
    assert user.call("GET", f"{path}?tail_bytes=2", 200)["stdout"] == "\n", "no half characters"
    assert user.call("GET", f"{path}?tail_bytes=0", 200)["stdout"] == ""
    (item,) = user.call("GET", f"/v1/sandboxes/{node}/executions", 200)["items"]
    assert (item["execution_id"], item["stdout"], item["stdout_bytes"]) == (execution["execution_id"], None, 3)


def test_events_continue_after_an_id(settings: Settings, user: User, node: str) -> None:
    execution_id = start(user, node, "printf 'aé'; sleep 1; printf 'üb'")["execution_id"]
    with worker(settings, user):
        found = events(user, execution_id)
    first = found[0]
    assert text(found, "stdout") == "aéüb"
    rest = events(user, execution_id, headers={"Last-Event-ID": first.id or ""})
    assert json.loads(first.data)["text"] + text(rest, "stdout") == "aéüb"
    # In the middle of a character: what is sent is whole again after the next one.
    assert text(events(user, execution_id, "?after=1000000000"), "stdout") == "éüb"
    assert text(events(user, execution_id, "?follow=false"), "stdout") == "aéüb"


def test_an_answer_can_wait_and_failures_are_problems(settings: Settings, user: User, node: str) -> None:
    with worker(settings, user):
        done = start(user, node, "echo a", 200, headers={"Prefer": "wait=30"})
        assert (done["status"], done["exit_code"], done["stdout"]) == ("completed", 0, "a\n")
        body = {"code": "true", "cwd": "/nowhere"}
        refused = user.http.post(f"/v1/sandboxes/{node}/executions", json=body, headers={"Prefer": "wait=30"})
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_path")
        assert refused.headers["location"] == f"/v1/executions/{refused.json()['execution_id']}"


def test_it_can_be_cancelled_again_and_again(settings: Settings, user: User, node: str) -> None:
    with worker(settings, user):
        execution_id = start(user, node, "echo on; sleep 60")["execution_id"]
        while user.call("GET", f"/v1/executions/{execution_id}", 200)["stdout"] != "on\n":
            time.sleep(0.05)
        for _ in range(2):
            ended = user.call("POST", f"/v1/executions/{execution_id}/cancel", 200, headers={"Prefer": "wait=20"})
            assert (ended["status"], ended["exit_code"]) == ("cancelled", None)
        assert [event.event for event in events(user, execution_id)][-1] == "execution.cancelled"


def test_the_same_key_gives_the_same_execution(user: User, node: str) -> None:
    headers = {"Idempotency-Key": f"key-{node}"}
    first = start(user, node, "true", headers=headers)
    assert start(user, node, "true", headers=headers)["execution_id"] == first["execution_id"]
    conflict = user.refused("POST", f"/v1/sandboxes/{node}/executions", 409, json={"code": "false"}, headers=headers)
    assert conflict["code"] == "idempotency_key_reused"
    user.call("POST", f"/v1/executions/{first['execution_id']}/cancel", 202)


def test_a_quota_limits_those_that_have_not_ended(settings: Settings, make_user: MakeUser) -> None:
    user = make_user()
    node = real.start(settings, user, node_type="parameter_server")
    started = [start(user, node, "sleep 60")["execution_id"] for _ in range(3)]
    refused = user.refused("POST", f"/v1/sandboxes/{node}/executions", 403, json={"code": "true"})
    assert refused["quota"] == {"name": "executions", "limit": 3, "used": 3, "asked": 1}
    with worker(settings, user):
        user.call("POST", f"/v1/executions/{started[0]}/cancel", 200, headers={"Prefer": "wait=20"})
        start(user, node, "true", 200, headers={"Prefer": "wait=20"})


def test_who_may_not_run_code_may_not_see_its_output(settings: Settings, make_user: MakeUser) -> None:
    """A worker's sandbox has training data, and output may show it."""
    user = make_user(scopes=SCOPES)
    node = real.start(settings, user)
    execution_id = start(user, node, "echo a", headers={"Idempotency-Key": "k"})["execution_id"]
    weak = make_user(user.project, SCOPES - {EXPORT, "admin"})
    for method, path in (
        ("GET", f"/v1/executions/{execution_id}"),
        ("GET", f"/v1/executions/{execution_id}/events"),
        ("POST", f"/v1/executions/{execution_id}/cancel"),
        ("GET", f"/v1/sandboxes/{node}/executions"),
    ):
        assert weak.refused(method, path, 403)["code"] == "data_export_needed"
    body = {"code": "echo a", "language": "bash"}
    path = f"/v1/sandboxes/{node}/executions"
    assert weak.refused("POST", path, 403, json=body, headers={"Idempotency-Key": "k"})["code"] == "data_export_needed"
    secret = user.call("POST", "/v1/keys", 201, json={"name": "owner", "node_id": node})["api_key"]
    owner = user.holding(secret)
    assert owner.call("GET", f"/v1/executions/{execution_id}", 200)["status"] == "pending"
    own = start(owner, node, "echo b")["execution_id"]
    events(user, own, "?follow=false")
    entry = user.audited(operation="stream_execution_events", status=200)[0]
    assert entry["detail"]["data_export"] is True
    assert entry["detail"]["node"] == node


def test_output_ends_with_its_sandbox(settings: Settings, user: User, node: str) -> None:
    with worker(settings, user):
        execution = start(user, node, "echo a", 200, headers={"Prefer": "wait=30"})
        asyncio.run(SandboxClient(settings).kill(execution["sandbox_id"]))
        told = user.call("GET", f"/v1/executions/{execution['execution_id']}", 200)
        assert (told["status"], told["stdout"], told["stdout_bytes"]) == ("completed", None, 2)
        assert [event.event for event in events(user, execution["execution_id"])] == ["execution.completed"]


@pytest.mark.parametrize("timeout_s", [0, 86_401])
def test_a_timeout_is_at_most_a_day(user: User, node: str, timeout_s: int) -> None:
    body = {"code": "true", "timeout_s": timeout_s}
    assert user.refused("POST", f"/v1/sandboxes/{node}/executions", 422, json=body)["errors"][0]["pointer"] == "/timeout_s"

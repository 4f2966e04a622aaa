"""The audit log has a success with its answer and a refusal soon after. Nobody can delete lines."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, OperationalError

from api.domain.scopes import SCOPES
from api.runtime.audit_writer import AuditWriter
from api.runtime.transactions import UseCaseRunner
from api.services.audit import AuditLine
from api.settings import Settings
from api.store import transitions
from api.store.database import Database
from api.store.tables import NodeRow
from tests.api.routes.calls import PUBLIC_URL, guarded
from tests.api.routes.conftest import MakeUser, make_settings
from tests.api.routes.user import CLUSTER, TRAINING, User
from tests.workers.sandboxes.hosting import API_KEY, Host


@pytest.fixture(scope="module")
def settings(postgres_url: str, host: Host, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The provider answers, but knows none of the sandboxes in the rows of these tests."""
    addresses = {"E2B_API_KEY": API_KEY, "E2B_API_URL": host.url, "E2B_SANDBOX_URL": host.url}
    return make_settings(postgres_url, tmp_path_factory.mktemp("models"), **addresses)


@pytest.fixture
def user(make_user: MakeUser) -> User:
    return make_user(scopes=SCOPES)


def log(user: User, **filters: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = user.call("GET", "/v1/audit", 200, params={**filters, "limit": 100})["items"]
    return found


@pytest.fixture
def written_beside(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Collect what the audit writer gets: operation and status."""
    recorded: list[tuple[str, int]] = []
    record = AuditWriter.record

    def spy(self: AuditWriter, request_record: AuditLine, status: int) -> None:
        recorded.append((request_record.operation, status))
        record(self, request_record, status)

    monkeypatch.setattr(AuditWriter, "record", spy)
    return recorded


def test_who_did_what_to_what_when_and_from_where(user: User) -> None:
    answer = user.http.post("/v1/clusters", json=CLUSTER)
    (entry,) = log(user, operation="create_cluster")
    assert entry["resource"] == answer.json()["cluster_id"]
    assert (entry["status"], entry["address"], entry["detail"]["path"]) == (201, "127.0.0.1", None)
    assert user.secret.startswith(entry["key_prefix"])
    assert entry["request_id"] == answer.headers["x-request-id"]
    assert entry["time"] >= answer.json()["created_at"]


def _webhook(user: User) -> str:
    body = {"name": "h", "url": PUBLIC_URL, "event_types": ["round.*"]}
    return str(user.call("POST", "/v1/webhooks", 201, json=body)["webhook_id"])


def test_every_success_that_changes_something_is_written_in_its_own_transaction(
    user: User, written_beside: list[tuple[str, int]]
) -> None:
    """The transaction writes the line. A crash can empty the audit writer's queue."""
    cluster_id = user.ready()
    training_id = user.training(cluster_id)
    user.training_becomes(training_id, "training")
    user.round_done(training_id, 1)
    model = user.call("POST", f"/v1/trainings/{training_id}/exports", 202, json={"name": "m"})
    user.call("POST", f"/v1/models/{model['model_id']}/cancel", 200)
    prediction = user.call("POST", f"/v1/clusters/{cluster_id}/predictions", 202, json={"inputs": ["a"]})
    user.call("POST", f"/v1/predictions/{prediction['prediction_id']}/cancel", 200)
    user.call("POST", f"/v1/trainings/{training_id}/stop", 202)
    user.training_becomes(training_id, "stopped")
    user.call("POST", f"/v1/trainings/{training_id}/resume", 202)
    user.call("POST", f"/v1/trainings/{training_id}/stop", 202)
    user.training_becomes(training_id, "stopped")
    search_id = user.search(cluster_id)
    user.call("POST", f"/v1/searches/{search_id}/stop", 202)
    lost = user.deploy(cluster_id)
    with user.rows.unit_of_work() as uow:
        node = uow.session.get_one(NodeRow, lost)
        node.due_at = None
        transitions.move(uow.session, node, "failed")
    user.call("POST", f"/v1/nodes/{lost}/redeploy", 202)
    node_id = user.nodes(cluster_id)[0]
    execution_id = user.call("POST", f"/v1/sandboxes/{user.running(cluster_id)}/executions", 202, json={"code": "1"})[
        "execution_id"
    ]
    user.call("POST", f"/v1/executions/{execution_id}/cancel", 202)
    user.call("DELETE", f"/v1/nodes/{node_id}", 202)
    user.call("POST", f"/v1/clusters/{cluster_id}/terminate", 202)
    key_id = user.key(scopes=["admin"])["key_id"]
    user.call("POST", f"/v1/keys/{key_id}/rotate", 200)
    user.call("DELETE", f"/v1/keys/{key_id}", 200)
    hook = f"/v1/webhooks/{_webhook(user)}"
    delivery_id = user.call("POST", f"{hook}/test", 202)["delivery_id"]
    user.call("POST", f"{hook}/deliveries/{delivery_id}/redeliver", 202)
    user.call("PATCH", hook, 200, json={"enabled": False})
    assert user.http.delete(hook).status_code == 204
    done = {entry["operation"]: entry for entry in log(user)}
    provider_needed = {"upload_file", "delete_file", "execute"}
    assert done.keys() == {operation.name for operation in guarded() if operation.mutates} - provider_needed
    assert written_beside == []
    resources = {
        "deploy_node": r"node_",
        "start_training": training_id,
        "create_search": search_id,
        "stop_search": search_id,
        "remove_node": node_id,
        "revoke_key": key_id,
        "create_key": key_id,
        "terminate_cluster": cluster_id,
    }
    for operation, resource in resources.items():
        assert done[operation]["resource"].startswith(resource)


def test_what_is_let_into_a_sandbox_is_written_before_it_acts(user: User) -> None:
    """The sandbox is gone. The first line stays, and a second one has the final status."""
    node_id = user.running(user.cluster())
    for method, path, operation, planned, options in (
        ("PUT", "files?path=/data/x", "upload_file", 201, {"content": b"x"}),
        ("DELETE", "files?path=/data/x", "delete_file", 204, {}),
        ("GET", "files?path=/data/x", "download_file", 200, {}),
        ("POST", "execute", "execute", 200, {"json": {"code": "secret_code()"}}),
        ("GET", "logs", "get_logs", 200, {}),
    ):
        user.refused(method, f"/v1/sandboxes/{node_id}/{path}", 409, **options)
        last, first = user.audited(2, operation=operation)
        assert (first["status"], last["status"]) == (planned, 409)
        assert first["request_id"] == last["request_id"]
        assert first["resource"] == last["resource"] == node_id
    assert "secret_code" not in str(log(user))


def test_a_conflict_is_not_written_as_done(user: User) -> None:
    cluster_id = user.cluster()
    user.refused("POST", f"/v1/clusters/{cluster_id}/connect", 409, json={})
    assert [entry["status"] for entry in user.audited(operation="connect_cluster")] == [409]
    user.refused("POST", "/v1/clusters", 422, json={"name": ""})
    assert [entry["status"] for entry in user.audited(2, operation="create_cluster")] == [422, 201]


def test_refusals_are_written_with_the_key_that_was_refused(user: User) -> None:
    reader = user.key(scopes=["clusters:read"])
    holder = user.holding(reader["api_key"])
    holder.refused("POST", "/v1/clusters", 403, json=CLUSTER)
    holder.refused("GET", "/v1/clusters/cls_unknown", 404)
    user.call("DELETE", f"/v1/keys/{reader['key_id']}", 200)
    holder.refused("GET", "/v1/clusters", 401)
    entries = user.audited(3, key_id=reader["key_id"])
    assert [(entry["operation"], entry["status"]) for entry in entries] == [
        ("list_clusters", 401),
        ("get_cluster", 404),
        ("create_cluster", 403),
    ]
    assert entries[1]["resource"] == "cls_unknown"
    user.call("GET", "/v1/clusters", 200)
    assert "list_clusters" not in {entry["operation"] for entry in log(user, status=200)}, "looking is not recorded"


def test_a_training_that_its_workers_refuse_is_told_as_it_went(user: User) -> None:
    cluster_id = user.ready()
    training_id = user.training(cluster_id)
    user.training_becomes(training_id, "refused", {"status": 422, "code": "no_data", "detail": "none", "errors": []})
    assert log(user, operation="start_training")[0]["resource"] == training_id
    user.refused("POST", f"/v1/clusters/{cluster_id}/trainings", 422, json={**TRAINING, "epochs": 0})
    assert [entry["status"] for entry in user.audited(2, operation="start_training")] == [422, 202]


def test_ids_that_no_database_holds_are_written_as_far_as_they_can_be(user: User) -> None:
    for path in ("/v1/nodes/%00%1b[2J", "/v1/nodes/" + "n" * 5000):
        user.http.delete(path)
    user.audited(2, operation="remove_node")


def test_pages_and_filters(user: User) -> None:
    for _ in range(5):
        user.cluster()
    page = user.call("GET", "/v1/audit", 200, params={"limit": 2, "operation": "create_cluster"})
    seen = page["items"]
    while page["next_cursor"]:
        params = {"limit": 2, "operation": "create_cluster", "cursor": page["next_cursor"]}
        page = user.call("GET", "/v1/audit", 200, params=params)
        seen += page["items"]
    assert len({entry["audit_id"] for entry in seen}) == len(seen) == 5
    times = [entry["time"] for entry in seen]
    assert times == sorted(times, reverse=True)
    middle = {"since": times[3], "until": times[1], "operation": "create_cluster"}
    assert 1 <= len(log(user, **middle)) <= 3
    assert log(user, status=409) == []
    for name, value in (("status", "x"), ("since", "yesterday"), ("since", "2026-01-01T00:00:00"), ("key_id", "\x00")):
        user.refused("GET", "/v1/audit", 422, params={name: value})


@pytest.mark.parametrize(
    "statement", ["UPDATE audit SET status = 200", "DELETE FROM audit", "DELETE FROM audit WHERE false", "TRUNCATE audit"]
)
def test_the_database_takes_nothing_back(user: User, statement: str) -> None:
    user.cluster()
    with pytest.raises(DBAPIError, match="append-only"), user.rows.unit_of_work() as uow:
        uow.session.execute(text(statement))
    assert log(user)


def test_refusals_wait_for_a_database_that_is_away(database: Database, user: User, caplog: pytest.LogCaptureFixture) -> None:
    class Away(UseCaseRunner):
        """A database that comes back after the third attempt."""

        attempts = 0
        tried = asyncio.Event()

        async def run(self, use_case: Any, caller: Any = None) -> Any:
            self.attempts += 1
            self.tried.set()
            if self.attempts <= 3:
                raise OperationalError("INSERT", {}, ConnectionError())
            return await super().run(use_case, caller)

    async def play() -> None:
        away = Away(database, 2, 10)
        writer = AuditWriter(away)
        entry = AuditLine(user.project_id, "key_away", "fnx_away", "get_cluster", "cls_x", None, "req_1", 200)
        for _ in range(3):
            writer.record(entry, 404)
        task = asyncio.create_task(writer.run())
        await away.tried.wait()
        task.cancel()
        while writer.waiting:
            await writer.aclose()

    asyncio.run(play())
    assert len(log(user, key_id="key_away")) == 3
    assert "waits for the database" in caplog.text

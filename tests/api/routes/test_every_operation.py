"""All operations of openapi.json: without a key, with one scope each, and with foreign ids."""

from dataclasses import dataclass

import httpx
import pytest

from api.domain.scopes import EXPORT, SCOPES
from api.domain.specs import ExecutionRequest, PredictionInput
from api.services import webhooks
from api.settings import Settings
from api.store import transitions
from api.store.tables import ExecutionRow, ModelRow, PredictionRow
from tests.api.routes.calls import OPEN, PUBLIC_URL, Operation, guarded, operations
from tests.api.routes.conftest import MakeUser, make_settings
from tests.api.routes.user import User, problem
from tests.workers.sandboxes.hosting import API_KEY, Host

SECRET = "zebra-7719"


@pytest.fixture(scope="module")
def settings(postgres_url: str, host: Host, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The provider answers, but knows none of the sandboxes in the rows of these tests."""
    addresses = {"E2B_API_KEY": API_KEY, "E2B_API_URL": host.url, "E2B_SANDBOX_URL": host.url}
    return make_settings(postgres_url, tmp_path_factory.mktemp("models"), **addresses)


@dataclass(frozen=True)
class Belongings:
    """Return ids of one resource of each kind in the first project, by the names of path
    parameters.
    """

    user: User
    ids: dict[str, str]


@pytest.fixture(scope="module")
def first(make_user: MakeUser) -> Belongings:
    user = make_user(scopes=SCOPES)
    cluster_id = user.ready(name=SECRET)
    nodes = user.nodes(cluster_id)
    training_id = user.training(cluster_id)
    common = {"project_id": user.project_id, "cluster_id": cluster_id, "training_id": training_id}
    with user.rows.unit_of_work() as uow:
        prediction = PredictionRow(
            id="pred_first", status="pending", aggregation="mean", request=PredictionInput(inputs=(SECRET,)), **common
        )
        model = ModelRow(id="mdl_first", status="pending", name=SECRET, digest="0" * 64, **common)
        execution = ExecutionRow(
            id="exec_first",
            project_id=user.project_id,
            cluster_id=cluster_id,
            node_id=nodes[0],
            sandbox_id="sbx_first",
            status="pending",
            request=ExecutionRequest(code=SECRET),
            timeout_s=60,
        )
        for row in (prediction, model, execution):
            transitions.created(uow.session, row)
        spec = webhooks.WebhookSpec(SECRET, PUBLIC_URL, ["round.*"])
        webhook_id = webhooks.create(uow.session, user.project_id, spec).id
        delivery_id = webhooks.send_test(uow, user.project_id, webhook_id).id
    key_id = user.call("POST", "/v1/keys", 201, json={"name": SECRET, "scopes": ["clusters:read"]})["key_id"]
    ids = {
        "cluster_id": cluster_id,
        "node_id": nodes[0],
        "sandbox_id": nodes[0],
        "training_id": training_id,
        "search_id": user.search(user.ready(name=SECRET), dataset=f"/data/{SECRET}.json"),
        "prediction_id": "pred_first",
        "model_id": "mdl_first",
        "execution_id": "exec_first",
        "key_id": key_id,
        "webhook_id": webhook_id,
        "delivery_id": delivery_id,
    }
    return Belongings(user, ids)


def test_the_first_project_has_one_of_everything_that_paths_name(first: Belongings) -> None:
    assert {name for operation in guarded() for name in operation.names} == first.ids.keys()


@pytest.mark.parametrize("operation", guarded(), ids=lambda operation: operation.name)
def test_another_project_finds_and_learns_nothing(first: Belongings, make_user: MakeUser, operation: Operation) -> None:
    stranger = make_user(scopes=SCOPES)
    answer = stranger.http.request(**operation.call(first.ids))
    if operation.names:
        assert problem(answer, 404)["code"] == "not_found"
    else:
        assert answer.status_code < 300, answer.text
        for name, value in first.ids.items():
            assert value not in answer.text, f"{name} of another project"
    assert SECRET not in answer.text
    assert first.user.project_id not in answer.text


def test_ids_in_bodies_and_queries_are_looked_for_in_the_project_too(first: Belongings, make_user: MakeUser) -> None:
    stranger = make_user(scopes=SCOPES)
    ids = first.ids
    own = stranger.cluster()
    stranger.refused("GET", f"/v1/trainings?cluster_id={ids['cluster_id']}", 404)
    stranger.refused("GET", f"/v1/searches?cluster_id={ids['cluster_id']}", 404)
    stranger.refused("POST", "/v1/keys", 404, json={"name": "k", "node_id": ids["node_id"]})
    body = {"inputs": ["a"], "training_id": ids["training_id"]}
    stranger.refused("POST", f"/v1/clusters/{own}/predictions", 404, json=body)
    page = stranger.call("GET", "/v1/audit", 200, params={"key_id": ids["key_id"]})
    assert page["items"] == []


def test_without_a_key_only_the_machines_operations_answer(first: Belongings, url: str) -> None:
    with httpx.Client(base_url=url) as nobody:
        for operation in operations():
            if operation.name in OPEN:
                assert operation.item["security"] == []
                # Not ready, in truth: no Celery worker runs here.
                expected = 503 if operation.path == "/readyz" else 200
                assert nobody.request(**operation.call({"code": "not_found"})).status_code == expected
                continue
            for headers in ({}, {"Authorization": "Bearer fnx_" + "x" * 43}):
                answer = nobody.request(**operation.call(first.ids), headers=headers)
                assert problem(answer, 401)["code"] in ("missing_key", "invalid_key"), operation.name
                assert answer.headers["www-authenticate"].startswith("Bearer")
        for path in ("/openapi.json", "/docs"):
            assert nobody.get(path).status_code == 200


def test_an_operation_wants_its_own_scope_and_no_other(make_user: MakeUser) -> None:
    single = {scope: make_user(scopes=frozenset({scope})) for scope in SCOPES}
    everything_else = {scope: make_user(scopes=SCOPES - {scope, "admin"}) for scope in SCOPES}
    used = set()
    for operation in guarded():
        scope = operation.scope
        used.add(scope)
        call = operation.call({})
        assert problem(everything_else[scope].http.request(**call), 403)["code"] == "missing_scope"
        for holder in (single[scope], single["admin"]):
            assert holder.http.request(**call).status_code not in (401, 403), operation.name
    assert used == SCOPES - {EXPORT}, "data:export opens no operation by itself"


def test_a_data_owners_key_opens_the_operations_of_its_sandbox_and_no_other(first: Belongings) -> None:
    cluster_id = first.user.cluster()
    own, other = first.user.running(cluster_id), first.user.running(cluster_id)
    secret = first.user.call("POST", "/v1/keys", 201, json={"name": "owner", "node_id": own})["api_key"]
    sandbox = {"get_sandbox", "upload_file", "download_file", "delete_file", "execute", "get_logs", "list_node_rounds"}
    sandbox |= {"start_execution", "list_executions", "list_files"}
    of_another_node = {"get_execution", "stream_execution_events", "cancel_execution"}
    with httpx.Client(base_url=first.user.http.base_url, headers={"Authorization": f"Bearer {secret}"}, timeout=60) as owner:
        for operation in guarded():
            at_own = owner.request(**operation.call({**first.ids, "sandbox_id": own, "node_id": own}))
            at_other = owner.request(**operation.call({**first.ids, "sandbox_id": other, "node_id": other}))
            if operation.name in sandbox:
                assert at_own.status_code in (200, 202, 409), f"{operation.name}: {at_own.text}"
                assert problem(at_other, 404)["code"] == "not_found"
            elif operation.name in of_another_node:
                assert problem(at_own, 404)["code"] == "not_found"
            else:
                assert problem(at_own, 403)["code"] in ("owner_key", "missing_scope"), operation.name
                assert at_other.status_code == 403

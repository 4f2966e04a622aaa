"""Keys, scopes and projects."""

from typing import Any

import httpx
import pytest

from api.main import create_app
from api.services import keys
from api.settings import Settings
from tests.api.routes.conftest import MakeUser
from tests.api.routes.user import CLUSTER, User, problem

METHODS = {"get", "post", "put", "delete"}


@pytest.fixture(scope="module")
def operations(settings: Settings) -> list[tuple[str, str, dict[str, Any]]]:
    paths = create_app(settings).openapi()["paths"]
    return [(method, path, item) for path, methods in paths.items() for method, item in methods.items() if method in METHODS]


def scope_of(operation: dict[str, Any]) -> str:
    (requirement,) = operation["security"]
    ((scope,),) = requirement.values()
    return str(scope)


def request(operation: dict[str, Any], method: str, path: str) -> dict[str, Any]:
    """A call that only its caller's rights can stop, before the id in it is looked for."""
    for name in ("cluster_id", "node_id", "training_id", "prediction_id", "model_id", "sandbox_id"):
        path = path.replace(f"{{{name}}}", "unknown")
    bodies: dict[str, Any] = {
        "create_cluster": CLUSTER,
        "deploy_node": {},
        "start_training": {"dataset": "/data/x.json", "epochs": 1},
        "predict": {"inputs": ["a"]},
        "export_model": {"name": "a"},
        "execute": {"code": "1"},
    }
    options = {"json": bodies[operation["operationId"]]} if operation["operationId"] in bodies else {}
    return {"method": method.upper(), "url": path, "params": {"path": "/data/x.json"}, **options}


def test_every_operation_but_those_for_machines_needs_a_key(
    operations: list[tuple[str, str, dict[str, Any]]], url: str
) -> None:
    with httpx.Client(base_url=url) as stranger:
        for method, path, operation in operations:
            if path in ("/healthz", "/readyz", "/metrics"):
                assert "security" not in operation
                continue
            answer = stranger.request(**request(operation, method, path))
            assert problem(answer, 401)["code"] == "missing_key"
            assert answer.headers["www-authenticate"].startswith("Bearer")


def test_an_operation_wants_its_own_scope_and_no_other(
    operations: list[tuple[str, str, dict[str, Any]]], make_user: MakeUser
) -> None:
    single = {scope: make_user(scopes=frozenset({scope})) for scope in keys.SCOPES}
    everything_else = {scope: make_user(scopes=keys.SCOPES - {scope, "admin"}) for scope in keys.SCOPES}
    used = set()
    for method, path, operation in operations:
        if "security" not in operation:
            continue
        scope = scope_of(operation)
        used.add(scope)
        call = request(operation, method, path)
        assert problem(everything_else[scope].http.request(**call), 403)["code"] == "missing_scope"
        for holder in (single[scope], single["admin"]):
            assert holder.http.request(**call).status_code not in (401, 403), operation["operationId"]
    assert used == keys.SCOPES - {"admin"}


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer fnx_wrong", "Basic abc", "fnx_wrong", "Bearer ü"])
def test_wrong_keys(url: str, header: str) -> None:
    answer = httpx.get(f"{url}/v1/clusters", headers=[(b"Authorization", header.encode())])
    assert problem(answer, 401)["code"] in ("missing_key", "invalid_key")


def test_a_revoked_key_stops_at_once(make_user: MakeUser) -> None:
    caller = make_user()
    caller.cluster()
    with caller.rows.unit_of_work() as uow:
        ((row, _),) = keys.page(uow.session, caller.project)
        keys.revoke(uow.session, row.id)
    assert caller.refused("GET", "/v1/clusters", 401)["code"] == "invalid_key"


def test_another_project_sees_and_touches_nothing(user: User, make_user: MakeUser) -> None:
    stranger = make_user()
    cluster_id = user.ready()
    node_id = user.call("GET", f"/v1/clusters/{cluster_id}/nodes", 200)["items"][0]["node_id"]
    sandbox_id = user.call("GET", f"/v1/nodes/{node_id}", 200)["sandbox_id"]
    training_id = user.training(cluster_id)
    for path in (
        f"/v1/clusters/{cluster_id}",
        f"/v1/clusters/{cluster_id}/status",
        f"/v1/clusters/{cluster_id}/nodes",
        f"/v1/clusters/{cluster_id}/events",
        f"/v1/nodes/{node_id}",
        f"/v1/trainings/{training_id}",
        f"/v1/trainings/{training_id}/rounds",
        f"/v1/trainings/{training_id}/events",
        f"/v1/trainings?cluster_id={cluster_id}",
        f"/v1/sandboxes/{sandbox_id}",
        f"/v1/sandboxes/{node_id}/logs",
        f"/v1/sandboxes/{sandbox_id}/files?path=/data/x",
    ):
        assert stranger.refused("GET", path, 404)["code"] == "not_found"
    for path in (
        f"/v1/clusters/{cluster_id}/terminate",
        f"/v1/clusters/{cluster_id}/connect",
        f"/v1/trainings/{training_id}/stop",
        f"/v1/trainings/{training_id}/resume",
    ):
        stranger.refused("POST", path, 404)
    stranger.refused("DELETE", f"/v1/nodes/{node_id}", 404)
    stranger.refused("POST", f"/v1/clusters/{cluster_id}/nodes", 404, json={})
    stranger.refused("PUT", f"/v1/sandboxes/{sandbox_id}/files?path=/data/x", 404, content=b"x")
    for path in ("/v1/clusters", "/v1/trainings", "/v1/sandboxes", "/v1/models"):
        assert stranger.call("GET", path, 200)["items"] == []
    assert user.call("GET", f"/v1/trainings/{training_id}", 200)["status"] == "pending"

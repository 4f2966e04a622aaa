"""One Idempotency-Key, one resource; a refused request frees its key."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.api.routes.user import CLUSTER, TRAINING, User

REFUSAL: dict[str, Any] = {
    "status": 422,
    "code": "no_data",
    "detail": "node_w1: nothing matches /data/train_*.json",
    "errors": [{"pointer": "/dataset", "message": "nothing matches on node_w1"}],
}


def key(name: str) -> dict[str, str]:
    return {"Idempotency-Key": name}


def test_the_same_request_gives_the_same_resource_as_it_is_now(user: User) -> None:
    first = user.call("POST", "/v1/clusters", 201, json=CLUSTER, headers=key("a"))
    user.call("POST", f"/v1/clusters/{first['cluster_id']}/terminate", 202)
    again = user.call("POST", "/v1/clusters", 201, json={**CLUSTER, "topology": "mesh"}, headers=key("a"))
    assert again["cluster_id"] == first["cluster_id"]
    assert again["status"] == "terminating"


def test_another_body_or_another_path_is_refused(user: User) -> None:
    cluster_id = user.call("POST", "/v1/clusters", 201, json=CLUSTER, headers=key("b"))["cluster_id"]
    body = user.refused("POST", "/v1/clusters", 409, json={"name": "other"}, headers=key("b"))
    assert body["code"] == "idempotency_key_reused"
    user.refused("POST", f"/v1/clusters/{cluster_id}/nodes", 409, json={}, headers=key("b"))


def test_projects_do_not_share_keys(user: User, make_user: Any) -> None:
    mine = user.call("POST", "/v1/clusters", 201, json=CLUSTER, headers=key("c"))["cluster_id"]
    assert make_user().call("POST", "/v1/clusters", 201, json=CLUSTER, headers=key("c"))["cluster_id"] != mine


def test_a_crowd_with_one_key_makes_one_node(user: User) -> None:
    cluster_id = user.cluster()

    def deploy(_: int) -> str:
        path = f"/v1/clusters/{cluster_id}/nodes"
        return str(user.call("POST", path, 202, json={"autonomy": 0.5}, headers=key("d"))["node_id"])

    with ThreadPoolExecutor(16) as crowd:
        assert len(set(crowd.map(deploy, range(16)))) == 1
    assert len(user.call("GET", f"/v1/clusters/{cluster_id}/nodes", 200)["items"]) == 1


@pytest.mark.parametrize("name", ["a b", "a" * 256, "é"])
def test_keys_are_short_and_plain(user: User, name: str) -> None:
    headers = [(b"Idempotency-Key", name.encode())]
    body = user.refused("POST", "/v1/clusters", 422, json=CLUSTER, headers=headers)
    assert body["code"] == "invalid_idempotency_key"


def test_a_request_that_fails_does_not_use_its_key_up(user: User) -> None:
    cluster_id = user.cluster()
    path = f"/v1/clusters/{cluster_id}/trainings"
    user.refused("POST", path, 409, json=TRAINING, headers=key("e"))
    user.running(cluster_id)
    user.running(cluster_id, node_type="parameter_server")
    user.call("POST", f"/v1/clusters/{cluster_id}/connect", 200)
    user.call("POST", path, 202, json=TRAINING, headers=key("e"))


def test_a_training_that_its_workers_refuse_frees_the_key(user: User) -> None:
    """Three copies of one request wait for one check. All get the answer, and the key is free."""
    cluster_id = user.ready()
    path = f"/v1/clusters/{cluster_id}/trainings"
    with ThreadPoolExecutor(3) as crowd:
        waiting = [crowd.submit(user.refused, "POST", path, 422, json=TRAINING, headers=key("f")) for _ in range(3)]
        first = user.newest_training(cluster_id)
        user.training_becomes(first, "refused", REFUSAL)
        for one in waiting:
            body = one.result()
            assert (body["code"], body["detail"], body["errors"]) == (REFUSAL["code"], REFUSAL["detail"], REFUSAL["errors"])
    second = user.call("POST", path, 202, json=TRAINING, headers=key("f"))["training_id"]
    assert second != first


def test_resume_with_a_key_is_done_once(user: User) -> None:
    training_id = user.training(user.ready())
    user.training_becomes(training_id, "failed", {"code": "quorum_lost", "detail": "too few workers"})
    path = f"/v1/trainings/{training_id}/resume"
    assert user.call("POST", path, 202, headers=key("g"))["status"] == "pending"
    user.training_becomes(training_id, "training")
    user.training_becomes(training_id, "completed")
    assert user.call("POST", path, 202, headers=key("g"))["status"] == "completed"
    assert user.refused("POST", path, 409, headers=key("h"))["code"] == "not_resumable"

"""A training refuses bad data before its first round, and names the node and the reason.

The cluster stays usable.
"""

from typing import Any

import pytest

from api.embedded.stack import EmbeddedStack
from tests.e2e.walk import Connected, Walk, samples

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def cluster(stack: EmbeddedStack, pair: Connected) -> tuple[Walk, str, list[str]]:
    walk = Walk(stack.url, stack.api_key)
    cluster_id, workers, _ = pair
    walk.upload(workers[0], "/data/good.json", samples(40), status=201)
    return walk, cluster_id, workers


UNUSABLE: dict[str, object] = {
    "broken": b'[{"text": "half a',
    "unlabelled": [{"text": "no label here"} for _ in range(40)],
    "list_labels": [{"text": f"all the same {index}", "sentiment": ["positive"]} for index in range(40)],
    "two_fields": [{"text": f"all the same {index}", "sentiment": "a", "label": "b"} for index in range(40)],
    "empty": [],
    "not_a_list": {"text": "alone"},
}


@pytest.mark.parametrize("kind", UNUSABLE)
def test_unusable_shards_are_refused_by_node(cluster: tuple[Walk, str, list[str]], kind: str) -> None:
    walk, cluster_id, workers = cluster
    walk.upload(workers[0], f"/data/{kind}.json", samples(40), status=201)
    walk.upload(workers[1], f"/data/{kind}.json", UNUSABLE[kind], status=201)
    problem = walk.train(cluster_id, status=422, dataset=f"/data/{kind}.json")
    assert problem["code"] != "internal"
    assert workers[1] in str(problem["errors"])
    assert problem["errors"][0]["pointer"] == "/dataset"
    assert "half a" not in str(problem)
    assert "all the same" not in str(problem)


def test_skewed_shards_train_on_the_union_of_their_classes(cluster: tuple[Walk, str, list[str]]) -> None:
    walk, cluster_id, workers = cluster
    shards = {
        worker: [{"text": f"text {index}", "label": label} for index in range(40)]
        for worker, label in zip(workers, (0, 1), strict=True)
    }
    for worker, rows in shards.items():
        walk.upload(worker, "/data/skew.json", rows, status=201)
    walk.train(cluster_id, dataset="/data/skew.json", epochs=1, label_names=["good", "bad"])
    ended = walk.until(cluster_id, "completed", within_s=60)
    assert {(flag["code"], flag["node_id"]) for flag in ended["red_flags"]} == {
        ("missing_classes", worker) for worker in workers
    }
    for worker in workers:
        walk.upload(worker, "/data/one.json", shards[workers[0]], status=201)
    assert walk.train(cluster_id, status=422, dataset="/data/one.json")["code"] == "single_class"


def test_a_glob_that_matches_nothing_on_one_worker_names_it(cluster: tuple[Walk, str, list[str]]) -> None:
    walk, cluster_id, workers = cluster
    problem = walk.train(cluster_id, status=422, dataset="/data/good*.json")
    assert workers[1] in problem["detail"]
    assert workers[0] not in problem["detail"]


def test_the_cluster_still_trains_and_refuses_a_second_training(cluster: tuple[Walk, str, list[str]]) -> None:
    walk, cluster_id, workers = cluster
    for number, worker in enumerate(workers):
        walk.upload(worker, "/data/fine.json", samples(200, number * 1000), status=201)
    first = walk.train(cluster_id, dataset="/data/fine.json", epochs=30)
    problem = walk.train(cluster_id, status=409, dataset="/data/fine.json")
    assert problem["code"] == "training_active"
    assert str(first["training_id"]) in problem["detail"]
    walk.call("POST", f"/v1/trainings/{first['training_id']}/stop")
    stopped = walk.until(cluster_id, "stopped", within_s=30)
    assert stopped["epoch"] < 30


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"epochs": -1}, "/epochs"),
        ({"learning_rate": 0}, "/learning_rate"),
        ({"optimizer": "adamant"}, "/optimizer"),
        ({"dataset": "/data/../etc/passwd"}, "/dataset"),
        ({"dataset": "relative.json"}, "/dataset"),
        ({"unheard_of": 1}, "/unheard_of"),
        ({"compression": "zip"}, "/compression"),
    ],
)
def test_wrong_fields_have_pointers(cluster: tuple[Walk, str, list[str]], fields: dict[str, Any], pointer: str) -> None:
    walk, cluster_id, _ = cluster
    problem = walk.train(cluster_id, status=422, **fields)
    assert [error["pointer"] for error in problem["errors"]] == [pointer]


def test_a_name_of_ten_megabytes_is_one_wrong_field(walk: Walk) -> None:
    problem = walk.call("POST", "/v1/clusters", status=422, json={"name": "a" * 10_000_000})
    assert [error["pointer"] for error in problem["errors"]] == ["/name"]
    assert len(str(problem)) < 2000, "a problem does not echo the request"


def test_a_cluster_without_workers_or_connection_is_refused(walk: Walk) -> None:
    cluster_id = walk.create()
    assert walk.train(cluster_id, status=409)["code"] == "no_workers"
    walk.terminate(cluster_id)
    assert walk.train(cluster_id, status=409)["code"] == "cluster_terminated"


@pytest.mark.parametrize("path", ["/data/../../etc/x", "relative", "/data/\x00x"])
def test_paths_that_escape_are_refused(cluster: tuple[Walk, str, list[str]], path: str) -> None:
    walk, _, workers = cluster
    walk.upload(workers[0], path, b"x", status=422)

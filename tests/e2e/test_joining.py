"""Workers come to a running training: a new one, one that dies, and a redeployed one."""

import time
from typing import Any

import pytest
from e2b import Sandbox

from api.embedded.stack import EmbeddedStack
from tests.e2e.provider import provider
from tests.e2e.walk import Walk, samples

pytestmark = pytest.mark.timeout(600)
_EPOCHS = 400


def _wait_for_worker(walk: Walk, training_id: str, node_id: str, within_s: float = 90) -> dict[str, Any]:
    """Return the first round in which the worker is done."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        for row in walk.call("GET", f"/v1/trainings/{training_id}/rounds", params={"limit": 1000})["items"]:
            if row["workers"].get(node_id, {}).get("state") == "done" and row["status"] == "completed":
                return dict(row)
        time.sleep(0.5)
    raise AssertionError(f"{node_id} has not taken part: {walk.call('GET', f'/v1/trainings/{training_id}')['error']}")


def _flag(walk: Walk, cluster_id: str, node_id: str, code: str, within_s: float = 60) -> dict[str, Any]:
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        for flag in walk.session(cluster_id)["red_flags"]:
            if (flag["node_id"], flag["code"]) == (node_id, code):
                return dict(flag)
        time.sleep(0.2)
    raise AssertionError(f"no flag {code} of {node_id}")


def test_workers_join_a_running_training(walk: Walk, stack: EmbeddedStack) -> None:
    cluster_id, workers, _ = walk.cluster(2)
    walk.shards(workers)
    training = walk.train(cluster_id, epochs=_EPOCHS)
    training_id = training["training_id"]
    walk.until(cluster_id, "training", epoch=1)

    # A new worker is told what it lacks, step by step.
    new = str(walk.deploy(cluster_id)["node_id"])
    walk.running(new)
    assert "connect" in _flag(walk, cluster_id, new, "worker_outside")["suggestion"]
    edges = walk.call("POST", f"/v1/clusters/{cluster_id}/connect", json={"topology": "mesh"})["connections"]
    assert {"from": workers[0], "to": new} in edges
    assert "no file matches" in _flag(walk, cluster_id, new, "worker_cannot_join")["message"]
    walk.upload(new, "/data/train_3.json", samples(120, 50_000), status=201)
    row = _wait_for_worker(walk, training_id, new)
    assert row["data_path"] == "mesh"
    assert len(row["workers"]) == 3
    shown = walk.call("GET", f"/v1/trainings/{training_id}")
    assert shown["workers"] == [*workers, new]
    assert shown["joined"][new] > 1
    assert walk.session(cluster_id)["workers"][new]["samples"] == 108

    # One whose sandbox ends while it joins does no harm.
    dying = walk.running(str(walk.deploy(cluster_id)["node_id"]))
    walk.upload(dying["node_id"], "/data/train_4.json", samples(120, 60_000), status=201)
    walk.call("POST", f"/v1/clusters/{cluster_id}/connect", json={})
    Sandbox.kill(dying["sandbox_id"], **provider(stack))
    epoch = walk.session(cluster_id)["epoch"]
    walk.until(cluster_id, "training", epoch=epoch + 2)

    # A worker of the training comes back after a redeploy.
    Sandbox.kill(walk.call("GET", f"/v1/nodes/{workers[1]}")["sandbox_id"], **provider(stack))
    flag = _flag(walk, cluster_id, workers[1], "node_lost")
    end = time.monotonic() + 60
    while "redeploy" not in flag["suggestion"] and time.monotonic() < end:
        time.sleep(0.2)
        flag = _flag(walk, cluster_id, workers[1], "node_lost")
    lost_at = walk.session(cluster_id)["epoch"]
    walk.call("POST", f"/v1/nodes/{workers[1]}/redeploy", headers={"Prefer": "wait=120"})
    walk.running(workers[1])
    walk.upload(workers[1], "/data/train_2.json", samples(120, 20_000), status=201)
    end = time.monotonic() + 90
    while time.monotonic() < end:
        rounds = walk.call("GET", f"/v1/trainings/{training_id}/rounds", params={"limit": 1000})["items"]
        back = [row for row in rounds if row["round"] > lost_at and row["workers"].get(workers[1], {}).get("state") == "done"]
        if back:
            break
        time.sleep(0.5)
    assert back, "the redeployed worker has not come back"
    walk.call("POST", f"/v1/trainings/{training_id}/stop")
    walk.until(cluster_id, "stopped", within_s=60)
    walk.terminate(cluster_id)

"""Consensus raft: the aggregator's sandbox ends during a training, and a worker is elected."""

import pytest
from e2b import Sandbox

from api.embedded.stack import EmbeddedStack
from tests.e2e.provider import provider
from tests.e2e.walk import Walk

pytestmark = pytest.mark.timeout(300)


def test_a_training_goes_on_under_an_elected_worker(walk: Walk, stack: EmbeddedStack) -> None:
    cluster_id, workers, aggregator = walk.cluster(3, consensus="raft")
    walk.shards(workers, 300)
    training = walk.train(cluster_id, epochs=5)
    walk.until(cluster_id, "training", epoch=1)
    Sandbox.kill(walk.call("GET", f"/v1/nodes/{aggregator}")["sandbox_id"], **provider(stack))
    walk.until(cluster_id, "completed", epoch=5)
    finished = walk.call("GET", f"/v1/trainings/{training['training_id']}")
    assert (finished["aggregator"], finished["term"], finished["completed_rounds"]) == (workers[0], 2, 5)
    nodes = {node_id: walk.call("GET", f"/v1/nodes/{node_id}") for node_id in (*workers, aggregator)}
    assert [nodes[node_id]["acts_as_aggregator"] for node_id in workers] == [True, False, False]
    assert (nodes[workers[0]]["role"], nodes[workers[0]]["status"]) == ("worker", "running")
    assert nodes[aggregator]["status"] == "lost"
    rounds = walk.call("GET", f"/v1/trainings/{training['training_id']}/rounds")["items"]
    assert [row["round"] for row in rounds] == [1, 2, 3, 4, 5]
    assert all(set(row["workers"]) == set(workers) for row in rounds), "the elected worker still trains"
    assert all(len(row["copies"]) >= 2 for row in rounds)
    events = walk.http.get(f"/v1/clusters/{cluster_id}/events", timeout=5, params={"follow": "false"}).text
    assert "event: training.aggregator_promoted" in events

    waits = {"Prefer": "wait=60"}
    asked = {"inputs": ["the lamp is great and sturdy", "the radio is broken and noisy"], "aggregation": "global"}
    answer = walk.call("POST", f"/v1/clusters/{cluster_id}/predictions", headers=waits, json=asked)
    assert [row["sentiment"] for row in answer["results"]["predictions"]] == ["positive", "negative"]
    asked = {"input_data": "/data/train_shard_1.json", "aggregation": "global"}
    refused = walk.call("POST", f"/v1/clusters/{cluster_id}/predictions", status=422, headers=waits, json=asked)
    assert refused["code"] == "not_an_aggregator", "its sandbox holds training data, which nobody may read"
    exported = walk.call("POST", f"/v1/trainings/{training['training_id']}/exports", headers=waits, json={"name": "m"})
    assert exported["status"] == "completed"
    again = walk.train(cluster_id, epochs=1)
    assert again["aggregator"] == workers[0]
    walk.until(cluster_id, "completed", epoch=1)
    walk.terminate(cluster_id)

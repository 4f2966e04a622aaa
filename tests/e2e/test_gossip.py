"""Consensus gossip over the API: workers average in pairs along a ring.

The exported model is the mean of all workers' models.
"""

import pytest

from tests.e2e.walk import Walk

pytestmark = pytest.mark.timeout(300)


def test_a_ring_gossips_until_its_workers_agree(walk: Walk) -> None:
    cluster_id, workers, _ = walk.cluster(3, topology="ring", consensus="gossip")
    walk.shards(workers, 60)
    training_id = walk.train(cluster_id, epochs=3)["training_id"]
    walk.until(cluster_id, "completed", epoch=3)
    rounds = walk.call("GET", f"/v1/trainings/{training_id}/rounds")["items"]
    assert [(row["data_path"], row["data_path_reason"], row["fallback"]) for row in rounds] == [("gossip", None, None)] * 3
    assert all(0 < row["consensus_distance"] < 1 for row in rounds)
    for row in rounds:
        exchanges = {(link["from"], link["to"]) for link in row["links"] if {link["from"], link["to"]} <= set(workers)}
        assert len(exchanges) == 2, "one pair of three workers, in both directions"
        assert not any(worker["decisions"] for worker in row["workers"].values())
    for topology in ("star", "hierarchical"):
        refused = walk.call("POST", f"/v1/clusters/{cluster_id}/connect", status=422, json={"topology": topology})
        assert refused["errors"][0]["pointer"] == "/topology"
    refused = walk.train(cluster_id, status=422, epochs=1, strategy="fedadam")
    assert refused["code"] == "consensus_conflict"
    walk.terminate(cluster_id)

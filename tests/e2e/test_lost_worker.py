"""A worker's sandbox ends in the middle of a round.

The round continues with the other workers, and events report the loss.
"""

import pytest
from e2b import Sandbox

from api.embedded.stack import EmbeddedStack
from tests.e2e.provider import provider
from tests.e2e.walk import Walk

pytestmark = pytest.mark.timeout(300)


def test_a_round_goes_on_without_a_lost_worker(walk: Walk, stack: EmbeddedStack) -> None:
    cluster_id, workers, _ = walk.cluster(3)
    walk.shards(workers, 400)
    training = walk.train(cluster_id, epochs=6)
    walk.until(cluster_id, "training", epoch=1)
    victim = walk.call("GET", f"/v1/nodes/{workers[1]}")
    Sandbox.kill(victim["sandbox_id"], **provider(stack))
    session = walk.until(cluster_id, "completed", epoch=6)
    assert session["workers"][workers[1]]["state"] == "lost"
    assert walk.call("GET", f"/v1/nodes/{workers[1]}")["status"] == "lost"
    events = walk.http.get(f"/v1/clusters/{cluster_id}/events", timeout=5, params={"follow": "false"}).text
    assert "event: round.worker_lost" in events
    assert "event: node.lost" in events
    rounds = walk.call("GET", f"/v1/trainings/{training['training_id']}/rounds")["items"]
    assert [row["round"] for row in rounds] == [1, 2, 3, 4, 5, 6]
    assert workers[1] not in rounds[-1]["workers"]
    walk.terminate(cluster_id)


def test_too_few_workers_fail_the_training(walk: Walk, stack: EmbeddedStack) -> None:
    cluster_id, workers, _ = walk.cluster(2)
    walk.shards(workers, 400)
    walk.train(cluster_id, epochs=50)
    walk.until(cluster_id, "training", epoch=1)
    for node_id in workers:
        walk.call("POST", f"/v1/sandboxes/{node_id}/execute", json={"code": "1"})
        Sandbox.kill(walk.call("GET", f"/v1/nodes/{node_id}")["sandbox_id"], **provider(stack))
    session = walk.until(cluster_id, "failed", within_s=60)
    assert session["error"]["code"] in ("quorum_lost", "quorum_not_met")
    assert walk.call("GET", f"/v1/clusters/{cluster_id}")["status"] == "connected"
    walk.terminate(cluster_id)

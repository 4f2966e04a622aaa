"""Stop abandons the current round. Resume continues after the last finished round."""

import pytest

from tests.e2e.walk import Connected, Walk

pytestmark = pytest.mark.timeout(300)


def test_stop_then_resume_finishes_every_epoch_once(walk: Walk, pair: Connected) -> None:
    cluster_id, workers, _ = pair
    walk.shards(workers, 300)
    training = walk.train(cluster_id, epochs=8)
    walk.until(cluster_id, "training", epoch=2)
    walk.call("POST", f"/v1/trainings/{training['training_id']}/stop")
    stopped = walk.until(cluster_id, "stopped", within_s=30)
    assert 2 <= stopped["epoch"] < 8
    assert walk.call("POST", f"/v1/trainings/{training['training_id']}/stop")["status"] == "stopped"
    assert walk.call("GET", f"/v1/clusters/{cluster_id}")["status"] == "connected"
    walk.call("POST", f"/v1/trainings/{training['training_id']}/resume")
    walk.until(cluster_id, "completed", epoch=8)
    rounds = walk.call("GET", f"/v1/trainings/{training['training_id']}/rounds")["items"]
    assert [row["round"] for row in rounds] == list(range(1, 9))

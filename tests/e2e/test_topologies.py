"""One cluster, connected differently for each training.

Each topology has a data path of its own. The round's links show it.
"""

import pytest

from tests.e2e.walk import Walk

pytestmark = pytest.mark.timeout(300)


def test_each_connect_changes_the_way_that_updates_take(walk: Walk) -> None:
    cluster_id, workers, aggregator = walk.cluster(3, topology="mesh")
    walk.shards(workers, 40)
    links: dict[str, set[tuple[str, str]]] = {}
    losses: dict[str, float] = {}
    for topology in ("mesh", "ring", "star", "hierarchical"):
        walk.call("POST", f"/v1/clusters/{cluster_id}/connect", json={"topology": topology})
        training = walk.train(cluster_id, epochs=2)
        walk.until(cluster_id, "completed", epoch=2)
        rounds = walk.call("GET", f"/v1/trainings/{training['training_id']}/rounds")["items"]
        assert [(row["data_path"], row["data_path_reason"], row["fallback"]) for row in rounds] == [(topology, None, None)] * 2
        assert all(link["bytes"] > 0 and link["seconds"] >= 0 for row in rounds for link in row["links"])
        links[topology] = {(link["from"], link["to"]) for link in rounds[1]["links"]}
        losses[topology] = rounds[1]["global_loss"]
    up = {(worker, aggregator) for worker in workers}
    assert up <= links["star"] <= up | {(aggregator, worker) for worker in workers}
    between = {(a, b) for a in workers for b in workers if a != b}
    assert between <= links["mesh"]
    assert len(links["mesh"] & up) == 1
    assert {link for link in links["ring"] if aggregator not in link} == {(workers[i], workers[(i + 1) % 3]) for i in range(3)}
    assert (workers[1], workers[0]) in links["hierarchical"]
    assert links["hierarchical"] & up == {(workers[0], aggregator)}
    assert max(losses.values()) - min(losses.values()) < 1e-3

    training = walk.train(cluster_id, epochs=2, strategy="median", fraction=0.5, min_workers=3)
    walk.until(cluster_id, "completed", epoch=2)
    rounds = walk.call("GET", f"/v1/trainings/{training['training_id']}/rounds")["items"]
    assert [row["data_path"] for row in rounds] == ["star", "star"]
    assert "median" in rounds[0]["data_path_reason"]

    training = walk.train(cluster_id, epochs=3, fraction=0.6, strategy="fedadam", quorum=1.0)
    walk.until(cluster_id, "completed", epoch=3)
    assert walk.call("GET", f"/v1/trainings/{training['training_id']}")["config"]["server_beta_2"] == 0.99
    for row in walk.call("GET", f"/v1/trainings/{training['training_id']}/rounds")["items"]:
        states = sorted(worker["state"] for worker in row["workers"].values())
        assert states == ["done", "done", "not_sampled"]
        assert (row["late_updates"], row["notices"]) == (0, [])

    refused = walk.train(cluster_id, status=422, epochs=1, strategy="krum")
    assert refused["errors"][0]["pointer"] == "/strategy"
    walk.terminate(cluster_id)

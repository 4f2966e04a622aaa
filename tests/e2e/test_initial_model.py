"""A training begins from an export of another cluster, from a training or from a file."""

import io
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

from api.embedded.stack import EmbeddedStack
from tests.e2e.walk import Connected, Trained, Walk, samples

pytestmark = pytest.mark.timeout(600)
DATA = "/data/more_*.json"
VALIDATION = "/data/checked.json"
# So small that a round changes nothing that counts.
STILL: dict[str, Any] = {"dataset": DATA, "validation": VALIDATION, "epochs": 1, "learning_rate": 1e-9}


@pytest.fixture(scope="module")
def model(trained: Trained) -> dict[str, Any]:
    """The completed export of the trained cluster."""
    body = {"name": "to_begin_from"}
    answer: dict[str, Any] = trained.walk.call(
        "POST", f"/v1/trainings/{trained.training_id}/exports", json=body, headers={"Prefer": "wait=120"}
    )
    return answer


@pytest.fixture
def ready(walk: Walk, pair: Connected) -> Connected:
    """A cluster with other shards than the trained one, and with checked texts."""
    _, workers, aggregator = pair
    for number, node_id in enumerate(workers, start=1):
        walk.upload(node_id, f"/data/more_{number}.json", samples(60, number * 20_000), status=(200, 201))
    walk.upload(aggregator, VALIDATION, samples(80, 70_000), status=(200, 201))
    return pair


def accuracy(walk: Walk, cluster_id: str, **fields: Any) -> tuple[dict[str, Any], float]:
    """Train to the end. Return the training, and the accuracy of its last model."""
    training = walk.train(cluster_id, **{**STILL, **fields})
    session = walk.until(cluster_id, "completed")
    found: dict[str, Any] = walk.call("GET", f"/v1/trainings/{training['training_id']}")
    return found, float(session["metrics"]["validation_accuracy"])


def refused(walk: Walk, cluster_id: str, source: str, status: int = 422) -> dict[str, Any]:
    return walk.train(cluster_id, status=status, **STILL, initial_model=source)


def download(walk: Walk, model: dict[str, Any]) -> bytes:
    answer = walk.http.get(f"/v1/models/{model['model_id']}/download")
    assert answer.status_code == 200
    return answer.content


def test_an_export_of_another_cluster_gives_its_weights(walk: Walk, ready: Connected, model: dict[str, Any]) -> None:
    cluster_id = ready[0]
    _, from_scratch = accuracy(walk, cluster_id)
    training, begun = accuracy(walk, cluster_id, initial_model=model["model_id"])
    assert from_scratch <= 0.7
    assert begun >= 0.95
    assert training["initial_model"] == {
        "source": model["model_id"],
        "digest": model["digest"],
        "labels": ["negative", "positive"],
    }
    exported = walk.call(
        "POST",
        f"/v1/trainings/{training['training_id']}/exports",
        json={"name": "second"},
        headers={"Prefer": "wait=120"},
    )
    with tarfile.open(fileobj=io.BytesIO(download(walk, exported))) as tar:
        card = tar.extractfile("second/README.md")
        assert card is not None
        assert f"| initial model | source: {model['model_id']}, digest: {model['digest']} |" in card.read().decode()
    files = walk.http.get(f"/v1/sandboxes/{ready[2]}/files", params={"path": f"/model/{training['training_id']}/initial.tar"})
    assert files.status_code == 404, "the copy of the archive is gone"


def test_a_class_is_added_and_the_old_ones_are_still_predicted(walk: Walk, ready: Connected, model: dict[str, Any]) -> None:
    cluster_id, workers, _ = ready
    more = [{"text": f"the lamp number {at} arrived on a tuesday", "sentiment": "delivery"} for at in range(30)]
    walk.upload(workers[0], "/data/more_1.json", [*samples(60, 20_000), *more], status=(200, 201))
    training, begun = accuracy(walk, cluster_id, epochs=6, local_epochs=2, learning_rate=0.003, initial_model=model["model_id"])
    assert training["labels"] == ["negative", "positive", "delivery"]
    assert begun >= 0.95, "on texts of the old classes"
    texts = ["the kettle is awful and broken", "the kettle is great and perfect", "the lamp number 99 arrived on a tuesday"]
    body = {"inputs": texts, "training_id": training["training_id"]}
    answer = walk.call("POST", f"/v1/clusters/{cluster_id}/predictions", json=body, headers={"Prefer": "wait=120"})
    assert [text["sentiment"] for text in answer["results"]["predictions"]] == ["negative", "positive", "delivery"]


def test_a_training_of_another_cluster_must_be_exported(
    walk: Walk, ready: Connected, trained: Trained, model: dict[str, Any]
) -> None:
    """`model` is an export of its newest model, so that the training's id is enough."""
    training, begun = accuracy(walk, ready[0], initial_model=trained.training_id)
    assert begun >= 0.95
    assert training["initial_model"]["digest"] == model["digest"]


def test_an_uploaded_tar_gives_its_weights_and_a_damaged_one_is_refused(
    walk: Walk, ready: Connected, model: dict[str, Any]
) -> None:
    cluster_id, _, aggregator = ready
    content = download(walk, model)
    walk.upload(aggregator, "/data/old.tar", content, status=(200, 201))
    training, begun = accuracy(walk, cluster_id, initial_model="/data/old.tar")
    assert begun >= 0.95
    assert training["initial_model"]["digest"] == model["digest"], "the same tensors, whichever way they came"
    walk.upload(aggregator, "/data/cut.tar", content[: len(content) // 2], status=(200, 201))
    problem = refused(walk, cluster_id, "/data/cut.tar")
    assert (problem["code"], problem["errors"][0]["pointer"]) == ("bad_export", "/initial_model")
    code = "import tarfile; tarfile.open('/data/old.tar').extractall('/data/folder', filter='data')"
    walk.call("POST", f"/v1/sandboxes/{aggregator}/execute", json={"code": code, "language": "python"})
    _, from_folder = accuracy(walk, cluster_id, initial_model="/data/folder/to_begin_from")
    assert from_folder >= 0.95


def test_an_archive_that_was_changed_on_the_control_planes_disk_is_refused(
    stack: EmbeddedStack, walk: Walk, ready: Connected, model: dict[str, Any], tmp_path: Path
) -> None:
    (archive,) = stack.folder.subfolder("models").rglob(f"{model['model_id']}.tar")
    shutil.copy(archive, tmp_path / "kept.tar")
    content = bytearray(archive.read_bytes())
    content[len(content) // 2] ^= 1
    archive.write_bytes(content)
    try:
        assert refused(walk, ready[0], model["model_id"])["code"] == "digest_mismatch"
    finally:
        shutil.copy(tmp_path / "kept.tar", archive)


def test_another_architecture_is_refused_and_both_are_named(walk: Walk, trained: Trained, model: dict[str, Any]) -> None:
    cluster_id, _, _ = walk.cluster(1, topology="star", architecture="cnn")
    try:
        problem = refused(walk, cluster_id, model["model_id"])
        assert problem["code"] == "initial_model_differs"
        assert "'base' of the architecture 'transformer'" in problem["detail"]
        assert "'base' of the architecture 'cnn'" in problem["detail"]
    finally:
        walk.terminate(cluster_id)


def test_a_completed_training_is_extended_with_rounds_numbered_on(walk: Walk, ready: Connected) -> None:
    cluster_id = ready[0]
    training, _ = accuracy(walk, cluster_id, epochs=2, learning_rate=0.001)
    path = f"/v1/trainings/{training['training_id']}"
    refusal = walk.call("POST", f"{path}/resume", status=409)
    assert refusal["code"] == "not_resumable"
    headers = {"Idempotency-Key": f"extend-{training['training_id']}"}
    for _ in range(2):
        answer = walk.call("POST", f"{path}/resume", json={"epochs": 2}, headers=headers)
        assert (answer["config"]["epochs"], answer["config"]["extended_after"]) == (4, [2])
    session = walk.until(cluster_id, "completed", epoch=4)
    assert (session["total_epochs"], session["remaining_seconds"]) == (4, 0.0)
    rounds = walk.call("GET", f"{path}/rounds")["items"]
    assert [row["round"] for row in rounds] == [1, 2, 3, 4]
    assert [row["base_digest"] for row in rounds[1:]] == [row["digest"] for row in rounds[:-1]]
    assert walk.call("POST", f"{path}/resume", json={"epochs": 0}, status=422)["errors"][0]["pointer"] == "/epochs"


def test_an_export_is_the_model_of_nodes(walk: Walk, model: dict[str, Any]) -> None:
    content = download(walk, model)
    cluster_id = walk.create(topology="star")
    nodes = [walk.deploy(cluster_id, kind, model="/data/old.tar") for kind in ("worker", "parameter_server")]
    worker, aggregator = (str(walk.running(node["node_id"])["node_id"]) for node in nodes)
    try:
        for node_id in (worker, aggregator):
            walk.upload(node_id, "/data/old.tar", content, status=201)
        walk.call("POST", f"/v1/clusters/{cluster_id}/connect", json={"topology": "star"})
        walk.upload(worker, "/data/more_1.json", samples(60, 20_000), status=201)
        walk.upload(aggregator, VALIDATION, samples(80, 70_000), status=201)
        _, begun = accuracy(walk, cluster_id)
        assert begun >= 0.95
    finally:
        walk.terminate(cluster_id)

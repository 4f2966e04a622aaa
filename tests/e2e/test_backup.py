"""A backup of a running service is restored on an empty machine, and training goes on there."""

import os
import shlex
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api.cli.main import main
from api.embedded.stack import EmbeddedStack
from tests.e2e.walk import Trained, Walk, samples

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def model(trained: Trained) -> dict[str, Any]:
    """Return the completed export of the trained cluster."""
    body = {"name": "to_keep"}
    answer: dict[str, Any] = trained.walk.call(
        "POST", f"/v1/trainings/{trained.training_id}/exports", json=body, headers={"Prefer": "wait=120"}
    )
    return answer


@pytest.fixture
def restored(stack: EmbeddedStack, model: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[EmbeddedStack]:
    """Yield a second stack, whose empty folder was filled from a backup of the first one."""
    for line in (stack.folder.path / "operator.env").read_text().splitlines():
        monkeypatch.setenv(*"".join(shlex.split(line)).split("=", 1))
    with tempfile.TemporaryDirectory(prefix="restored-", ignore_cleanup_errors=True) as folder:
        file, home = Path(folder) / "backup.tar", Path(folder) / "home"
        assert main(["backup", str(file)]) == 0
        for name in os.environ:
            if name.startswith(("FLOW_NEXUS_", "E2B_")):
                monkeypatch.delenv(name)
        assert main(["restore", str(file), "--home", str(home)]) == 0
        monkeypatch.setenv("FLOW_NEXUS_RECONCILE_INTERVAL_S", "2")
        with EmbeddedStack(home) as second:
            yield second


def bring_back(walk: Walk, node_id: str, former: str) -> None:
    """Redeploy a node once it is known to be lost. Wait until it runs in another sandbox."""
    end = time.monotonic() + 150
    while (node := walk.call("GET", f"/v1/nodes/{node_id}"))["sandbox_id"] == former or node["status"] != "running":
        assert time.monotonic() < end, node
        if node["status"] == "lost":
            walk.call("POST", f"/v1/nodes/{node_id}/redeploy", status=(202, 409))
        time.sleep(0.5)


def test_training_goes_on_after_a_restore(
    stack: EmbeddedStack, restored: EmbeddedStack, trained: Trained, model: dict[str, Any]
) -> None:
    # The keys of the first stack are valid, because the secret key is the same.
    walk = Walk(restored.url, stack.api_key)
    path = f"/v1/trainings/{trained.training_id}"
    assert walk.call("GET", path) == trained.walk.call("GET", path)
    assert walk.call("GET", f"{path}/rounds") == trained.walk.call("GET", f"{path}/rounds")
    downloads = [one.http.get(f"/v1/models/{model['model_id']}/download").content for one in (walk, trained.walk)]
    assert downloads[0] == downloads[1]

    # Sandboxes are not in a backup. So the nodes are lost, get new ones, and need their data again.
    for node_id in (*trained.workers, trained.aggregator):
        bring_back(walk, node_id, former=trained.walk.call("GET", f"/v1/nodes/{node_id}")["sandbox_id"])
    for number, node_id in enumerate(trained.workers, start=1):
        walk.upload(node_id, f"/data/train_shard_{number}.json", samples(120, number * 10_000), status=201)
    walk.upload(trained.aggregator, "/data/validation.json", samples(60, 90_000), status=201)
    more = walk.train(trained.cluster_id, epochs=2, initial_model=model["model_id"])
    session = walk.until(trained.cluster_id, "completed", epoch=2)
    assert session["training_id"] == more["training_id"]
    found = walk.call("GET", f"/v1/trainings/{more['training_id']}")
    assert found["initial_model"]["digest"] == model["digest"]

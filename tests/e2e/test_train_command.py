"""`flow-nexus train` on a real stack, on a file as people have it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from api.embedded.stack import EmbeddedStack
from tests.e2e.walk import Walk, samples

pytestmark = pytest.mark.timeout(400)
OPTIONS = ("--epochs", "6", "--batch-size", "8")


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    """Write a semicolon CSV. Its texts have line ends in quotes, and its columns other names."""
    rows = [f'"{row["text"]};\nline 2";{row["sentiment"]};s{number % 3 // 2}' for number, row in enumerate(samples(400))]
    path = tmp_path / "reviews.csv"
    path.write_text("\n".join(["Review;Verdict;Site", *rows, ""]))
    return path


def train(stack: EmbeddedStack, file: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "FLOW_NEXUS_URL": stack.url, "FLOW_NEXUS_API_KEY": stack.api_key}
    command = [sys.executable, "-m", "api.cli.main", "train", str(file), "--text-field", "Review", "--label-field", "Verdict"]
    root = Path(__file__).resolve().parents[2]
    return subprocess.run(
        [*command, *OPTIONS, "--out", str(file.with_suffix(".model")), *words],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_a_file_of_ones_own_is_trained_tested_exported_and_ended(stack: EmbeddedStack, walk: Walk, reviews: Path) -> None:
    done = train(stack, reviews, "--workers", "2", "--format", "json")
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    test = document["test"]
    counts = test["confusion_matrix"]["counts"]
    assert test["confusion_matrix"]["labels"] == ["negative", "positive"]
    assert [sum(row) for row in counts] == [40, 40], "a fifth of each label is the test set"
    assert test["accuracy"] == pytest.approx((counts[0][0] + counts[1][1]) / 80)
    assert test["accuracy"] > 0.9
    assert document["cost_usd"] > 0
    assert (document["cluster_status"], document["running_sandboxes"]) == ("terminated", 0)
    assert walk.call("GET", f"/v1/clusters/{document['cluster_id']}")["status"] == "terminated"
    model = Path(document["model"])
    assert model == reviews.with_suffix(".model")
    assert json.loads((model / "config.json").read_text())["id2label"] == {"0": "negative", "1": "positive"}


def test_sites_can_be_workers_and_the_cluster_can_stay(stack: EmbeddedStack, walk: Walk, reviews: Path) -> None:
    done = train(stack, reviews, "--site-column", "Site", "--keep", "--epochs", "1")
    assert done.returncode == 0, done.stderr
    cluster_id = next(word for word in done.stdout.split() if word.startswith("cls_"))
    try:
        assert walk.session(cluster_id)["status"] == "completed"
        workers = walk.session(cluster_id)["workers"].values()
        assert sorted(worker["samples"] for worker in workers)[1] > 1.5 * min(worker["samples"] for worker in workers)
        answer = walk.call(
            "POST", f"/v1/clusters/{cluster_id}/predictions", json={"inputs": ["a text"]}, headers={"Prefer": "wait=60"}
        )
        assert answer["status"] == "completed"
    finally:
        walk.terminate(cluster_id)

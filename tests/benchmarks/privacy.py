"""The cost of secure aggregation and differential privacy.

    python -m tests.benchmarks.privacy [--data FOLDER] [--epochs 10] [--samples 2500]
        [--ways plain secure]

    python -m tests.benchmarks.privacy --model minilm --set freeze_layers=6 --rate 1e-2
        --private-rate 1e-2 --private-batch 256

Four workers on the embedded stack run the same training, plain and protected. FOLDER holds
train_shard_1..4.json, validation.json and test.json. The default is the shared data folder beside
the repository. Without it, feedback is generated. It prints the test accuracy, the median seconds
of a round, and the seconds of the slowest worker's training. It also prints the bytes of updates in
a round, and the largest epsilon of a worker with its delta.
"""

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from api.embedded.stack import EmbeddedStack
from api.sample_data.generator import Recipe, generate
from tests.benchmarks.agent_accuracy import SHARED
from tests.benchmarks.rows import row
from tests.e2e.walk import Walk

WORKERS = 4
PARTS = (*(f"train_shard_{number}" for number in range(1, WORKERS + 1)), "validation", "test")
WAYS = ("plain", "secure", "dp8", "dp3", "dp8+secure")
_LONGEST_S = 3600
Rows = list[dict[str, str]]


def loaded(folder: Path | None, samples: int) -> dict[str, Rows]:
    if folder is None:
        recipe = Recipe(shards=WORKERS, samples=samples, test=1000, validation=500, seed=0)
        made = {name: [{"text": one.text, "sentiment": one.sentiment} for one in part] for name, part in generate(recipe)}
        return {part: made[part.removeprefix("train_")] for part in PARTS}
    found: dict[str, Rows] = {part: json.loads((folder / f"{part}.json").read_bytes()) for part in PARTS}
    return {part: rows[:samples] if part.startswith("train") else rows for part, rows in found.items()}


def fields_of(way: str, given: argparse.Namespace) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "epochs": given.epochs,
        "batch_size": 32,
        "learning_rate": given.rate,
        **{name: json.loads(value) for name, value in (item.split("=", 1) for item in given.set)},
    }
    if "dp" in way:
        target = float(way.removeprefix("dp").removesuffix("+secure"))
        fields["differential_privacy"] = {"target_epsilon": target, "max_grad_norm": given.norm}
        fields |= {"batch_size": given.private_batch, "learning_rate": given.private_rate}
    if "secure" in way:
        fields["secure_aggregation"] = True
    return fields


def measure(walk: Walk, cluster_id: str, way: str, fields: Mapping[str, Any]) -> str:
    """Describe the cost of one way in words."""
    training_id = walk.train(cluster_id, **fields)["training_id"]
    session = walk.until(cluster_id, "completed", within_s=_LONGEST_S)
    assert session["training_id"] == training_id
    rounds = walk.call("GET", f"/v1/trainings/{training_id}/rounds", params={"limit": 200})["items"]
    asked = {"input_data": "/data/test.json", "aggregation": "global"}
    answer = walk.call("POST", f"/v1/clusters/{cluster_id}/predictions", headers={"Prefer": "wait=240"}, json=asked)
    spent = session["privacy"]
    privacy = f", epsilon {spent['epsilon']:.2f} at delta {spent['delta']:.1e}" if spent else ""
    seconds, trained = (median(row[name] for row in rounds) for name in ("seconds", "train_seconds"))
    sent = median(row["bytes_received"] for row in rounds) / 1e6
    accuracy = answer["results"]["accuracy"]
    return f"{accuracy:.2%}, {seconds:.2f} s a round of which {trained:.2f} s training, {sent:.1f} MB{privacy}"


def run(walk: Walk, data: Mapping[str, Rows], given: argparse.Namespace) -> None:
    cluster_id = walk.create(name="privacy", topology="star", architecture=given.architecture, idle_timeout_minutes=0)
    workers = [walk.deploy(cluster_id, model=given.model)["node_id"] for _ in range(WORKERS)]
    aggregator = walk.deploy(cluster_id, "parameter_server", model=given.model)["node_id"]
    for node_id in (*workers, aggregator):
        walk.running(node_id)
    walk.call("POST", f"/v1/clusters/{cluster_id}/connect", json={"topology": "star"})
    for number, node_id in enumerate(workers, 1):
        walk.upload(node_id, "/data/train_1.json", data[f"train_shard_{number}"])
    for name in ("validation", "test"):
        walk.upload(aggregator, f"/data/{name}.json", data[name])
    print(
        f"{given.architecture} {given.model}: {WORKERS} workers x {len(data['train_shard_1'])} records, {given.epochs} epochs"
    )
    for way in given.ways:
        row(f"{given.model}, {given.epochs} epochs, {way}", measure(walk, cluster_id, way, fields_of(way, given)))
    walk.terminate(cluster_id)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=SHARED if SHARED.is_dir() else None)
    parser.add_argument("--architecture", default="transformer")
    parser.add_argument("--model", default="base")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--samples", type=int, default=2500, help="of each worker")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--private-rate", type=float, default=2e-3, help="learning rate of the private ways")
    parser.add_argument("--private-batch", type=int, default=128, help="expected batch of the private ways")
    parser.add_argument("--norm", type=float, default=1.0, help="max_grad_norm")
    parser.add_argument("--ways", nargs="+", default=list(WAYS))
    parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=JSON", help="any field of the trainings")
    given = parser.parse_args()
    # An interrupted benchmark stops its stack.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("cut short"))
    with tempfile.TemporaryDirectory() as home, EmbeddedStack(Path(home), port=0) as stack:
        run(Walk(stack.url, stack.api_key), loaded(given.data, given.samples), given)


if __name__ == "__main__":
    main()

"""The main example of the README on the whole embedded stack.

    python -m tests.benchmarks.pretrained [--data FOLDER] [--epochs 50] [--learning-rate 1e-4]
        [--set freeze_layers=4 ...]

Four workers with 2,500 real feedbacks each fine-tune MiniLM. `--set` sets any field of a training:
--set target_accuracy=0.9, --set compression='"topk+int8"'. It needs the extra `pretrained`.
It prints the wall seconds of the training from its session, the test accuracy, and the bytes sent.
"""

import argparse
import json
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from api.embedded.stack import EmbeddedStack
from tests.benchmarks.rows import row
from tests.e2e.walk import Walk

WORKERS = 4
_LONGEST_S = 3600


@dataclass(frozen=True, slots=True)
class Goals:
    accuracy: float | None
    seconds: int | None


def run(walk: Walk, folder: Path, model: str, fields: dict[str, Any], goals: Goals) -> None:
    cluster_id = walk.create(name="headline", topology="star")
    workers = [walk.deploy(cluster_id, model=model)["node_id"] for _ in range(WORKERS)]
    aggregator = walk.deploy(cluster_id, "parameter_server", model=model)["node_id"]
    for node_id in (*workers, aggregator):
        walk.running(node_id)
    walk.call("POST", f"/v1/clusters/{cluster_id}/connect", json={"topology": "star"})
    for number, node_id in enumerate(workers, 1):
        walk.upload(node_id, "/data/train_shard.json", (folder / f"train_shard_{number}.json").read_bytes())
    for name in ("validation", "test"):
        walk.upload(aggregator, f"/data/{name}.json", (folder / f"{name}.json").read_bytes())
    training_id = walk.train(cluster_id, **fields)["training_id"]
    session = followed(walk, cluster_id)
    rounds = walk.call("GET", f"/v1/trainings/{training_id}/rounds", params={"limit": 200})["items"]
    asked = {"input_data": "/data/test.json", "aggregation": "global"}
    answer = walk.call("POST", f"/v1/clusters/{cluster_id}/predictions", headers={"Prefer": "wait=240"}, json=asked)
    walk.terminate(cluster_id)
    reason = session["stop_reason"]
    sent = sum(item["bytes_received"] for item in rounds if item["bytes_received"])
    print(f"asked for: {json.dumps(fields)}")
    print(f"epochs: {session['epoch']} of {session['total_epochs']}; ended by itself: {reason['detail'] if reason else 'no'}")
    print(
        f"seconds: {session['elapsed_seconds']:.1f}, of which the slowest workers trained {sum_of(rounds, 'train_seconds'):.1f}"
    )
    print(f"validation accuracy: {session['metrics']['validation_accuracy']:.2%}")
    print(f"test accuracy: {answer['results']['accuracy']:.2%} on {len(answer['results']['predictions'])} texts")
    print(f"updates: {sent / 1e6:.1f} MB in all, {rounds[-1]['compression_ratio']:.2%} of whole fp32 models")

    name = f"{model}, {session['epoch']} of {session['total_epochs']} epochs, {_words(fields)}"
    wanted = f"at least {goals.accuracy:.1%}" if goals.accuracy else ""
    row(f"{name}: test accuracy", f"{answer['results']['accuracy']:.2%}", wanted)
    row(f"{name}: training", f"{session['elapsed_seconds']:.0f} s", f"under {goals.seconds} s" if goals.seconds else "")
    row(f"{name}: bytes of the updates", f"{rounds[-1]['compression_ratio']:.2%} of whole fp32 models")


def _words(fields: dict[str, Any]) -> str:
    plain = ("epochs", "batch_size", "optimizer", "mixed_precision")
    return ", ".join(f"{name} {value}" for name, value in fields.items() if name not in plain)


def sum_of(rounds: list[dict[str, Any]], figure: str) -> float:
    return sum(item[figure] or 0.0 for item in rounds)


def followed(walk: Walk, cluster_id: str) -> dict[str, Any]:
    """Print each round; return the session after it has ended."""
    shown, end = -1, time.monotonic() + _LONGEST_S
    while time.monotonic() < end:
        session = walk.session(cluster_id)
        if session["epoch"] != shown:
            shown = session["epoch"]
            metrics = session["metrics"]
            print(
                f"  epoch {shown}: loss {metrics['global_loss']}, validation {metrics['validation_accuracy']},"
                f" {session['elapsed_seconds'] or 0:.0f} s",
                flush=True,
            )
        if session["status"] not in ("pending", "training"):
            assert session["status"] == "completed", session["error"]
            return session
        time.sleep(0.5)
    raise TimeoutError(f"the training took longer than {_LONGEST_S} s")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=Path("../shared/data/product_feedback"))
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=JSON")
    parser.add_argument("--goal-accuracy", type=float)
    parser.add_argument("--goal-seconds", type=int)
    given = parser.parse_args()
    fields: dict[str, Any] = {
        "epochs": given.epochs,
        "learning_rate": given.learning_rate,
        "batch_size": 32,
        "optimizer": "adamw",
        "mixed_precision": True,
        **{name: json.loads(value) for name, value in (item.split("=", 1) for item in given.set)},
    }
    # An interrupted benchmark stops its stack.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("cut short"))
    with tempfile.TemporaryDirectory() as home, EmbeddedStack(Path(home), port=0) as stack:
        run(Walk(stack.url, stack.api_key), given.data, given.model, fields, Goals(given.goal_accuracy, given.goal_seconds))


if __name__ == "__main__":
    main()

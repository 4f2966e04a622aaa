"""A complete federated training on real text, over the REST API.

    python -m tests.benchmarks.agent_accuracy [--data FOLDER] [--seeds 0 1 2] [--epochs 10]

The embedded stack runs 4 workers and an aggregator. `base` is trained from scratch with batch size
32, learning rate 0.001 and adam. FOLDER holds train_shard_1..4.json, validation.json and test.json.
The default is the shared data folder beside the repository. Without it, feedback is generated. For
each round it prints the seconds and the validation accuracy. At the end it prints the test accuracy
(through POST .../predictions) and the seconds of the training. It also prints the largest memory
(PSS) that the five agents used together. The reference is a bag of words on the same files. It is
fitted in one process in the same run.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from api.embedded.stack import EmbeddedStack
from api.sample_data.generator import Recipe, Sample, generate
from tests.benchmarks.bag_of_words import bag_of_words
from tests.benchmarks.memory import AgentMemory
from tests.benchmarks.rows import row
from tests.e2e.walk import Walk

WORKERS = 4
SHARED = Path(__file__).parents[2].parent / "shared" / "data" / "product_feedback"
Data = dict[str, list[Sample]]


def given(folder: Path) -> Data:
    names = {f"shard_{number}": f"train_shard_{number}" for number in range(1, WORKERS + 1)}
    names |= {name: name for name in ("validation", "test")}
    return {
        part: [Sample(row["text"], row["sentiment"]) for row in json.loads((folder / f"{name}.json").read_bytes())]
        for part, name in names.items()
    }


def generated() -> Data:
    recipe = Recipe(shards=WORKERS, samples=2500, test=1000, validation=500, seed=0)
    return {name: list(samples) for name, samples in generate(recipe)}


def rows(samples: list[Sample]) -> list[dict[str, str]]:
    return [{"text": sample.text, "sentiment": sample.sentiment} for sample in samples]


def _train(walk: Walk, data: Data, seed: int, epochs: int) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]:
    """Return (session, rounds, results of the prediction)."""
    cluster_id, workers, aggregator = walk.cluster(WORKERS)
    try:
        for number, node_id in enumerate(workers, start=1):
            walk.upload(node_id, f"/data/train_shard_{number}.json", rows(data[f"shard_{number}"]), status=201)
        for name in ("validation", "test"):
            walk.upload(aggregator, f"/data/{name}.json", rows(data[name]), status=201)
        training = walk.train(cluster_id, epochs=epochs, batch_size=32, learning_rate=0.001, optimizer="adam", seed=seed)
        session = walk.until(cluster_id, "completed", within_s=1200)
        rounds = walk.call("GET", f"/v1/trainings/{training['training_id']}/rounds", params={"limit": epochs})["items"]
        question = {"input_data": "/data/test.json", "aggregation": "global"}
        prediction = walk.call("POST", f"/v1/clusters/{cluster_id}/predictions", json=question, headers={"Prefer": "wait=120"})
        return session, rounds, prediction["results"]
    finally:
        walk.terminate(cluster_id)


def _report(name: str, found: tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]], memory: AgentMemory) -> None:
    session, rounds, results = found
    for item in rounds:
        print(f"  round {item['round']:>2}: {item['seconds']:.1f} s, validation accuracy {item['validation_accuracy']:.1%}")
    peak = f"{memory.peak / 1e9:.2f} GB in {memory.agents} agents" if memory.peak else "memory not readable here"
    row(f"{name}: test accuracy", f"{results['accuracy']:.2%} on {len(results['predictions'])} texts")
    row(f"{name}: training", f"{session['elapsed_seconds']:.0f} s, {peak}")


def main(data: Data, seeds: list[int], epochs: int) -> None:
    with tempfile.TemporaryDirectory(prefix="agent-accuracy-") as name, EmbeddedStack(Path(name), port=0) as stack:
        walk = Walk(stack.url, stack.api_key)
        for seed in seeds:
            with AgentMemory(stack.pid("sandboxes")) as memory:
                found = _train(walk, data, seed, epochs)
            _report(f"`base` from scratch, {epochs} epochs, seed {seed}", found, memory)
    train = [sample for part, samples in data.items() if part.startswith("shard") for sample in samples]
    row("reference: a bag of words on the same files", f"{bag_of_words(train, data['test']):.2%}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=SHARED if SHARED.is_dir() else None)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=10)
    wanted = parser.parse_args()
    print(f"data: {wanted.data.name if wanted.data else 'generated feedback'}", flush=True)
    main(given(wanted.data) if wanted.data else generated(), wanted.seeds, wanted.epochs)

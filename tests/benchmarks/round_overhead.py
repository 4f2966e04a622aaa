"""The time of a round beyond local training, through the whole product.

    python -m tests.benchmarks.round_overhead [--workers 4 16] [--sizes 1 87] [--rounds 10]

The embedded stack runs as `flow-nexus up` starts it. Clusters, nodes and trainings are created over
the REST API. The agents are those of the product, each in its sandbox. Each worker has one batch of
three short texts and takes one step of SGD. So the clients train almost nothing. A round lasts from
its start to the start of the next round (the last one to its end).

The time includes:

- The step between two rounds and its Celery message.
- All transactions and events, and the calls to the agents.
- The download of the global model and the upload of each update through the sandbox host.
- Reading, writing and hashing these files.
- The checks of updates at the aggregator, the average, and publishing.
- The evaluation of the new model on 20 short validation texts.

It does not include:

- The training step, as the slowest worker reports it. It is printed, so that the sum is the round.
- The first round, in which agents build networks and tokenise data. It is printed separately.
- The start of sandboxes and the data check.

16 workers with the 87 MB model need about 10 GB of memory and two minutes to start on two cores.

With --timeline it also prints where the time of each round went, as the Celery worker saw it
(round_timeline.py). The core-seconds of a round are those of the whole stack. Other work on the
machine hardly changes them.

The reference of each row is measured in the same run (plain_round.py). It moves the same files to
the same number of clients and back over plain HTTP on loopback. One process averages them.
FLWR_PYTHON may name an interpreter with flwr. Then a round of Flower in deployment mode with the
same sizes is measured too (flower_round.py).
"""

import argparse
import os
import statistics
import tempfile
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from api.embedded import services
from api.embedded.process import ServiceSpec
from api.embedded.stack import EmbeddedStack
from tests.benchmarks import blank_model, flower_round, plain_round, round_timeline
from tests.benchmarks.rows import row
from tests.e2e.walk import Walk, samples
from tests.workers.sandboxes.hosting import descendants

MODEL = "/data/blank"
_WAVE = 4
_SERVICES = ("worker", "sandboxes", "postgres", "redis")
_COLUMNS = ("workers", "model", "moved", "median", "max", "reference", "ratio", "training", "aggregate", "evaluate", "first")
_LINE = "{:>7}  {:>6}  {:>8}  {:>8}  {:>8}  {:>9}  {:>6}  {:>8}  {:>9}  {:>8}  {:>8}"


@dataclass(frozen=True, slots=True)
class HeldOutMetrics:
    """Seconds of each round after the first.

    `beyond` is the rest without the slowest worker's training.
    """

    beyond: list[float]
    training: list[float]
    aggregate: list[float]
    evaluate: list[float]
    first: float
    moved: int
    cores: float
    starts: list[float]


def _traced(trace: Path) -> None:
    """Have the stack start a Celery worker that writes to `trace`."""
    original = services.celery_worker

    def traced(*arguments: Any) -> ServiceSpec:
        spec = original(*arguments)
        added = {"ROUND_TRACE": str(trace), "PYTHONPATH": str(Path.cwd())}
        argv = ["tests.benchmarks.traced_worker" if word == "workers.app" else word for word in spec.argv]
        return replace(spec, argv=argv, env={**spec.env, **added})

    services.celery_worker = traced  # type: ignore[assignment]


def _core_seconds(stack: EmbeddedStack) -> float:
    """Return the CPU time of the stack's processes so far, without the API's."""
    ticks = 0
    for service in _SERVICES:
        for pid in (stack.pid(service), *descendants(stack.pid(service))):
            with suppress(OSError):
                ticks += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def _cluster(walk: Walk, workers: int, files: list[Path]) -> str:
    """Create a connected cluster whose nodes have the model's files; return its id."""
    cluster_id = walk.create(name=f"{workers} workers", topology="star")
    nodes: list[str] = []
    for start in range(0, workers + 1, _WAVE):
        wave = ["worker" if index < workers else "parameter_server" for index in range(start, min(start + _WAVE, workers + 1))]
        deployed = [walk.deploy(cluster_id, node_type, model=MODEL)["node_id"] for node_type in wave]
        nodes += [walk.running(node_id)["node_id"] for node_id in deployed]
    walk.call("POST", f"/v1/clusters/{cluster_id}/connect", json={"topology": "star"})
    for number, node_id in enumerate(nodes):
        for path in files:
            walk.upload(node_id, f"{MODEL}/{path.name}", path.read_bytes(), status=201)
        if number < workers:
            walk.upload(node_id, "/data/train.json", samples(4, 10 * number), status=201)
    walk.upload(nodes[-1], "/data/validation.json", samples(20, 5000), status=201)
    return cluster_id


def _measure(stack: EmbeddedStack, walk: Walk, workers: int, files: list[Path], rounds: int) -> HeldOutMetrics:
    cluster_id = _cluster(walk, workers, files)
    try:
        training = walk.train(
            cluster_id,
            dataset="/data/train.json",
            epochs=rounds + 1,
            batch_size=32,
            optimizer="sgd",
            max_length=16,
        )
        done = walk.until(cluster_id, "training", "completed", within_s=1800, epoch=1)["epoch"]
        before = _core_seconds(stack)
        walk.until(cluster_id, "completed", within_s=1800)
        cores = (_core_seconds(stack) - before) / max(1, rounds + 1 - done)
        found = walk.call("GET", f"/v1/trainings/{training['training_id']}/rounds", params={"limit": rounds + 1})["items"]
    finally:
        walk.terminate(cluster_id)
    return _figures(found, workers, cores)


def _figures(rounds: list[dict[str, Any]], workers: int, cores: float) -> HeldOutMetrics:
    starts = [datetime.fromisoformat(item["started_at"]) for item in rounds]
    ends = [*starts[1:], datetime.fromisoformat(rounds[-1]["finished_at"])]
    whole = [(end - start).total_seconds() for start, end in zip(starts, ends, strict=True)]
    for item in rounds:
        done = [worker for worker in item["workers"].values() if worker["state"] == "done"]
        if len(done) != workers:
            raise SystemExit(f"round {item['round']}: only {len(done)} of {workers} workers took part")
    training = [item["train_seconds"] for item in rounds]
    return HeldOutMetrics(
        beyond=[seconds - trained for seconds, trained in zip(whole[1:], training[1:], strict=True)],
        training=training[1:],
        aggregate=[item["aggregate_seconds"] for item in rounds[1:]],
        evaluate=[item["evaluate_seconds"] for item in rounds[1:]],
        first=whole[0],
        # Each worker has uploaded an update and downloaded a model of the same size.
        moved=2 * rounds[-1]["bytes_received"],
        cores=cores,
        starts=[start.timestamp() for start in (*starts, ends[-1])],
    )


def _row(workers: int, shape: blank_model.ResponseModel, found: HeldOutMetrics, reference: list[float]) -> str:
    median = statistics.median(found.beyond)
    floor = statistics.median(reference)
    seconds = [median, max(found.beyond), floor, *map(statistics.median, (found.training, found.aggregate, found.evaluate))]
    shown = [f"{value:.3f} s" for value in (*seconds, found.first)]
    cells = [workers, shape.name, f"{found.moved / 1e6:.0f} MB", *shown[:3], f"{median / floor:.1f}", *shown[3:]]
    return _LINE.format(*cells)


def _seconds_row(workers: int, size: int, found: HeldOutMetrics, reference: list[float]) -> None:
    beyond = statistics.median(found.beyond)
    ratio = beyond / statistics.median(reference)
    later = beyond + statistics.median(found.training)
    row(
        f"a round beyond training, {workers} workers, {size} MB",
        f"{beyond:.2f} s, {ratio:.1f} times plain HTTP and a mean in one process; {found.cores:.2f} core-seconds",
    )
    row(f"the first round, {workers} workers, {size} MB", f"{found.first:.2f} s, {found.first / later:.1f} times a later one")


def main(workers: list[int], sizes: list[int], rounds: int, *, timeline: bool) -> None:
    print(_LINE.format(*_COLUMNS), flush=True)
    with tempfile.TemporaryDirectory(prefix="round-overhead-") as name:
        folder = Path(name)
        trace = folder / "trace.jsonl"
        if timeline:
            _traced(trace)
        models = {size: blank_model.save(blank_model.SHAPES[size], folder / f"model-{size}") for size in sizes}
        with EmbeddedStack(folder / "stack", port=0) as stack:
            walk = Walk(stack.url, stack.api_key)
            for size, files in models.items():
                weights = next(path for path in files if path.suffix == ".safetensors")
                for count in workers:
                    found = _measure(stack, walk, count, files, rounds)
                    reference = plain_round.seconds(count, rounds, weights, folder / f"plain-{count}-{size}")
                    print(_row(count, blank_model.SHAPES[size], found, reference), flush=True)
                    _seconds_row(count, size, found, reference)
                    if timeline:
                        rounds_seen = round_timeline.read(trace, found.starts, 2 * found.moved)
                        print("\n".join(round_timeline.show(rounds_seen)), flush=True)
        if python := os.environ.get("FLWR_PYTHON"):
            for size, count in ((size, count) for size in sizes for count in workers):
                took = flower_round.seconds(Path(python), count, rounds, size << 20, folder / f"flower-{count}-{size}")
                shown = f"{statistics.median(took):.3f} s (max {max(took):.3f} s)"
                print(f"Flower, deployment mode, {count} clients, {size} MB: {shown}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[4, 16])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 87], choices=sorted(blank_model.SHAPES), help="MB")
    parser.add_argument("--rounds", type=int, default=10, help="counted rounds; one more is made before them")
    parser.add_argument("--timeline", action="store_true", help="print where the time of each round went")
    given = parser.parse_args()
    main(given.workers, given.sizes, given.rounds, timeline=given.timeline)

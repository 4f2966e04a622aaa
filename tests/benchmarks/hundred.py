"""A cluster of a hundred workers, from its creation to its end.

    python -m tests.benchmarks.hundred [--workers 100] [--topologies star hierarchical] [--rounds 5]

The embedded stack runs as `flow-nexus up` starts it. For each topology, the workers and one
aggregator are deployed and connected. Each worker gets 20 short texts. They train `base` with one
step a round. Then one prediction is made, and the cluster is terminated.

It prints the seconds of each part and the memory of all the stack's processes, as PSS. A round
beyond training is its time without the slowest worker's training. Four clients ask for the status
all the time: their requests/s and the slowest hundredth are printed. At last it counts the orphans:
sandboxes that the host still has, and processes of ended sandboxes.

It needs Linux, and root to read the memory of other users' processes.
"""

import argparse
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import httpx

from api.embedded.stack import EmbeddedStack
from tests.benchmarks.memory import pss
from tests.benchmarks.rows import row
from tests.benchmarks.template_process import wait_for_template
from tests.e2e.walk import Walk, samples
from tests.workers.sandboxes.hosting import descendants

_AT_ONCE = 16
_TEXTS = 20
_WITHIN_S = 900.0
_GONE_S = 60.0
_MIB = 1 << 20
_GOALS = {"deploy": "<= 20 s", "memory": "<= 8 GB", "round": "<= 1.5 s", "status": "p99 <= 100 ms", "orphans": "0"}
T = TypeVar("T")
R = TypeVar("R")


class StatusClients:
    """Clients that ask for a cluster's status until the block ends, each over one connection."""

    def __init__(self, walk: Walk, cluster_id: str, clients: int = 4) -> None:
        self._walk, self._path = walk, f"/v1/clusters/{cluster_id}/status"
        self._done = threading.Event()
        self._seconds: list[float] = []
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def __enter__(self) -> "StatusClients":
        self._began = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()
        self._took = time.monotonic() - self._began

    def _ask(self) -> None:
        with httpx.Client(base_url=self._walk.url, headers=self._walk.http.headers, timeout=60) as http:
            while not self._done.is_set():
                began = time.monotonic()
                http.get(self._path).raise_for_status()
                self._seconds.append(time.monotonic() - began)
                time.sleep(0.05)

    def figure(self) -> str:
        found = sorted(self._seconds)
        p50, p99 = (found[int(share * (len(found) - 1))] * 1000 for share in (0.5, 0.99))
        return f"{len(found) / self._took:.0f} requests/s, p50 {p50:.0f} ms, p99 {p99:.0f} ms"


@contextmanager
def _timed(what: str, wanted: str = "") -> Iterator[None]:
    began = time.monotonic()
    yield
    row(what, f"{time.monotonic() - began:.1f} s", wanted)


def _each(work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        return list(threads.map(work, items))


def _deploy(walk: Walk, cluster_id: str, workers: int) -> tuple[list[str], str]:
    roles = ["worker"] * workers + ["parameter_server"]
    nodes = _each(lambda role: str(walk.deploy(cluster_id, role)["node_id"]), roles)
    _each(lambda node_id: walk.running(node_id, _WITHIN_S), nodes)
    return nodes[:-1], nodes[-1]


def _upload(walk: Walk, workers: Sequence[str]) -> None:
    def one(numbered: tuple[int, str]) -> None:
        number, node_id = numbered
        walk.upload(node_id, "/data/train.json", samples(_TEXTS, 1000 * number), status=201)

    _each(one, list(enumerate(workers)))


def _train(walk: Walk, cluster_id: str, rounds: int) -> list[dict[str, Any]]:
    training = walk.train(cluster_id, dataset="/data/train.json", epochs=rounds, batch_size=32)
    walk.until(cluster_id, "completed", within_s=_WITHIN_S)
    found: list[dict[str, Any]] = walk.call("GET", f"/v1/trainings/{training['training_id']}/rounds", params={"limit": rounds})[
        "items"
    ]
    return found


def _print_rounds(what: str, rounds: list[dict[str, Any]], workers: int) -> None:
    starts = [datetime.fromisoformat(item["started_at"]) for item in rounds]
    ends = [*starts[1:], datetime.fromisoformat(rounds[-1]["finished_at"])]
    whole = [(end - start).total_seconds() for start, end in zip(starts, ends, strict=True)]
    beyond = [seconds - (item["train_seconds"] or 0) for seconds, item in zip(whole, rounds, strict=True)]
    done = min(sum(worker["state"] == "done" for worker in item["workers"].values()) for item in rounds)
    row(f"{what}: workers in each round", f"{done} of {workers}", f"{workers}")
    row(f"{what}: the first round", f"{whole[0]:.1f} s")
    row(f"{what}: a round beyond training", f"{statistics.median(beyond[1:]):.2f} s (median)", _GOALS["round"])


def _memory() -> str:
    sizes = [size for pid in descendants(os.getpid()) if (size := pss(pid)) is not None]
    return f"{sum(sizes) / _MIB:.0f} MiB (PSS of {len(sizes)} processes)"


def _orphans(stack: EmbeddedStack, before: int) -> int:
    """Wait until the host has as many processes below it as before, and return the surplus."""
    end = time.monotonic() + _GONE_S
    while (surplus := len(descendants(stack.pid("sandboxes"))) - before) > 0 and time.monotonic() < end:
        time.sleep(0.5)
    return max(0, surplus)


def _measure(stack: EmbeddedStack, topology: str, workers: int, rounds: int) -> None:
    walk, what = Walk(stack.url, stack.api_key), f"{workers} workers, {topology}"
    before = len(descendants(stack.pid("sandboxes")))
    cluster_id = walk.create(name=what, topology=topology)
    with StatusClients(walk, cluster_id) as clients:
        with _timed(f"{what}: deploy", _GOALS["deploy"]):
            nodes, aggregator = _deploy(walk, cluster_id, workers)
        with _timed(f"{what}: connect"):
            walk.call("POST", f"/v1/clusters/{cluster_id}/connect", json={"topology": topology})
        with _timed(f"{what}: upload of {workers} shards"):
            _upload(walk, nodes)
        walk.upload(aggregator, "/data/test.json", samples(_TEXTS, 900_000), status=201)
        with _timed(f"{what}: {rounds} rounds"):
            found = _train(walk, cluster_id, rounds)
        _print_rounds(what, found, workers)
        row(f"{what}: memory of the stack and all sandboxes", _memory(), _GOALS["memory"])
        with _timed(f"{what}: one prediction"):
            body = {"input_data": "/data/test.json", "aggregation": "majority"}
            walk.call("POST", f"/v1/clusters/{cluster_id}/predictions", json=body, headers={"Prefer": "wait=120"}, status=200)
    row(f"{what}: status meanwhile", clients.figure(), _GOALS["status"])
    with _timed(f"{what}: terminate"):
        walk.terminate(cluster_id)
    row(f"{what}: orphans", f"{_orphans(stack, before)}", _GOALS["orphans"])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.hundred")
    parser.add_argument("--workers", type=int, default=100)
    parser.add_argument("--topologies", nargs="+", default=["star", "hierarchical"])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="hundred-", ignore_cleanup_errors=True) as folder,
        EmbeddedStack(Path(folder) / "home", port=0) as stack,
    ):
        wait_for_template(Path(folder) / "home")
        for topology in options.topologies:
            _measure(stack, topology, options.workers, options.rounds)


if __name__ == "__main__":
    main()

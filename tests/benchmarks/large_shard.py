"""A large shard in one worker of a real cluster: time and memory of its check and its token ids.

    python -m tests.benchmarks.large_shard [--mib 1000] [--architecture cnn]

The reference reads the same file with `json.loads` and keeps its rows, as a simple program would.
Memory is the peak of the agent's private pages, and of its proportional set size (PSS), which also
counts its share of mapped files. The sandbox has the default limit of 4 GiB. The training is
stopped once its first batches are done.
"""

import argparse
import json
import multiprocessing
import random
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from api.embedded.stack import EmbeddedStack
from tests.benchmarks.memory import AgentMemory
from tests.benchmarks.rows import row
from tests.e2e.walk import SUBJECTS, WORDS, Walk

_MIB = 2**20
_LONGEST_S = 3600
_CHUNK = 2**20


def write(path: Path, size: int) -> int:
    """Write reviews of 10 to 120 words as JSON Lines, `size` bytes or more. Return the rows."""
    draw, rows = random.Random(0), 0
    plain = [f"word{number}" for number in range(20_000)]
    with path.open("w") as file:
        while file.tell() < size:
            for _ in range(1000):
                label = draw.choice(sorted(WORDS))
                words = draw.choices(plain, k=draw.randint(8, 118))
                text = f"the {draw.choice(SUBJECTS)} is {draw.choice(WORDS[label])} {' '.join(words)}"
                file.write(json.dumps({"text": text, "sentiment": label}) + "\n")
            rows += 1000
    return rows


def _reference(path: Path, answer: Connection) -> None:
    started = time.monotonic()
    with path.open() as file:
        rows = [json.loads(line) for line in file.read().splitlines()]
    answer.send((len(rows), time.monotonic() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))


def reference(path: Path) -> tuple[float, int]:
    """Return the seconds and the peak memory in bytes of a program that keeps all rows."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=_reference, args=(path, sender))
    process.start()
    _, seconds, peak = receiver.recv()
    process.join()
    return seconds, peak


def chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def follow(walk: Walk, training_id: str) -> dict[str, float]:
    """Return the seconds until the check, the token ids and the first batches were done."""
    reached: dict[str, float] = {}
    started = time.monotonic()
    while time.monotonic() - started < _LONGEST_S:
        training: dict[str, Any] = walk.call("GET", f"/v1/trainings/{training_id}")
        now, preparation = time.monotonic() - started, training["preparation"]
        if training["status"] not in ("pending", "training"):
            raise SystemExit(f"the training is {training['status']}: {training['error']}")
        if preparation is not None:
            stages = {node["stage"] for node in preparation["nodes"].values()}
            print(f"{now:6.0f} s  {preparation['progress']:.0%} {sorted(stages)}", flush=True)
            if "tokens" in stages:
                reached.setdefault("check", now)
        if training["status"] == "training":
            reached.setdefault("tokens", now)
            return reached
        time.sleep(2)
    raise SystemExit("the data was not read in time")


def run(walk: Walk, stack: EmbeddedStack, path: Path, architecture: str, batches_s: float) -> None:
    size = path.stat().st_size
    cluster_id, workers, _ = walk.cluster(1, topology="star", architecture=architecture)
    started = time.monotonic()
    walk.call("PUT", f"/v1/sandboxes/{workers[0]}/files", params={"path": "/data/train_1.json"}, content=chunks(path))
    row("upload", f"{size / _MIB / (time.monotonic() - started):.0f} MiB/s")
    with AgentMemory(stack.pid("sandboxes")) as memory:
        training = walk.train(cluster_id, epochs=1, batch_size=64)
        reached = follow(walk, training["training_id"])
        time.sleep(batches_s)
        rounds = walk.call("GET", f"/v1/trainings/{training['training_id']}/rounds")
        walk.call("POST", f"/v1/trainings/{training['training_id']}/stop")
    tokens_s = reached["tokens"] - reached.get("check", 0.0)
    row(f"check and token ids of {size / _MIB:.0f} MiB", f"{reached['tokens']:.0f} s ({tokens_s:.0f} s of it token ids)")
    row("speed of both", f"{size / _MIB / reached['tokens']:.1f} MiB/s")
    row("first round", str(rounds["items"][-1]["status"] if rounds["items"] else "not begun"))
    if memory.peak is not None:
        row("peak memory of both agents (PSS)", f"{memory.peak / _MIB:.0f} MiB, {memory.peak / size:.2f} of the file")
    walk.terminate(cluster_id)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--mib", type=int, default=1000)
    parser.add_argument("--architecture", default="cnn")
    parser.add_argument("--batches-seconds", type=float, default=30, help="how long the first round trains")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("cut short"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shard.jsonl"
        rows = write(path, given.mib * _MIB)
        size = path.stat().st_size
        row("file", f"{size / _MIB:.0f} MiB, {rows} rows")
        seconds, peak = reference(path)
        used = f"{size / _MIB / seconds:.0f} MiB/s, {peak / _MIB:.0f} MiB, {peak / size:.1f} of the file"
        row("reference: json.loads, all rows kept", used)
        with EmbeddedStack(Path(folder) / "home", port=0) as stack:
            run(Walk(stack.url, stack.api_key), stack, path, given.architecture, given.batches_seconds)


if __name__ == "__main__":
    main()

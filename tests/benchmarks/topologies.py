"""Bytes, seconds and memory of a round by topology, for 2 to 32 workers.

    python -m tests.benchmarks.topologies [--workers 2,4,8,16,32] [--rounds 3]

The reference is the star in the same run. Every agent is a process behind a Unix socket, without a
control plane. The model is an encoder of about half a million parameters. Training is one batch, so
that the result shows the path of the updates. Seconds are the median wall time of a round. Memory
is the largest growth of an agent's resident set during a round.
"""

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import BertConfig, BertModel, BertTokenizer

from api.domain import topology
from tests.benchmarks.fleet import PATIENCE_S, Fleeting, fleet
from tests.benchmarks.rows import row
from workers.agent.protocol.aggregation import AggregateRound
from workers.agent.protocol.common import ModelSpec
from workers.agent.protocol.exchange import DataPath
from workers.agent.protocol.training import Hyperparameters, InitTraining, TrainRound

_MODEL = ModelSpec(architecture="transformer", model="/models/small", labels=["negative", "positive"], max_length=16)
_WORDS = ("great", "love", "sturdy", "broken", "awful", "slow", "the", "lamp", "is")
_MIB = 2**20


@dataclass
class _Row:
    workers: int
    kind: str
    model_bytes: int
    total_bytes: int
    busiest_bytes: int
    """Return the most bytes in and out of one agent."""
    seconds: float
    worker_memory: int
    aggregator_memory: int

    @property
    def figures(self) -> str:
        sent, busiest = self.total_bytes / self.model_bytes, self.busiest_bytes / self.model_bytes
        memory = f"{self.worker_memory / _MIB:.0f} MiB at a worker, {self.aggregator_memory / _MIB:.0f} MiB at the aggregator"
        return f"{sent:.1f} models sent, {busiest:.1f} by the busiest, {self.seconds:.2f} s, {memory}"


def _small_model(folder: Path) -> None:
    folder.mkdir(parents=True)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *_WORDS]
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    BertTokenizer.from_pretrained(folder).save_pretrained(folder)
    config = BertConfig(
        vocab_size=1000, hidden_size=128, num_hidden_layers=2, num_attention_heads=2, intermediate_size=512,
        max_position_embeddings=32,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)


@contextmanager
def _agents(workers: int) -> Iterator[tuple[Fleeting, list[Fleeting]]]:
    """A fleet with the small model and training data."""
    texts = [{"text": f"the lamp is {_WORDS[i % 6]}", "sentiment": _MODEL.labels[i % 6 < 3]} for i in range(12)]
    with fleet(workers) as (aggregator, made), tempfile.TemporaryDirectory(prefix="bench-") as folder:
        _small_model(Path(folder) / "small")
        for agent in (aggregator, *made):
            shutil.copytree(Path(folder) / "small", agent.root / "models/small")
            (agent.root / "data/train.json").write_text(json.dumps(texts))
        yield aggregator, made


def _path(kind: str, workers: Sequence[Fleeting]) -> DataPath | None:
    if kind == "star":
        return None
    groups = topology.groups([worker.peer.node_id for worker in workers]) if kind == "hierarchical" else []
    return DataPath.model_validate(
        {"kind": kind, "peers": [worker.peer for worker in workers], "groups": groups, "wait_s": PATIENCE_S}
    )


def _round(
    kind: str, number: int, base: str, aggregator: Fleeting, workers: Sequence[Fleeting]
) -> tuple[dict[str, Any], float]:
    """Return (the aggregator's report, wall seconds)."""
    path, started = _path(kind, workers), time.perf_counter()
    aggregator.post(
        "/rounds/aggregate",
        AggregateRound(
            training_id=kind, round=number, model=_MODEL, base_digest=base, workers=[worker.peer for worker in workers],
            self_peer=aggregator.peer, dataset="/data/train.json", quorum=len(workers), deadline_s=PATIENCE_S, path=path,
        ),
    )  # fmt: skip
    hyperparameters = Hyperparameters(batch_size=16, learning_rate=0.001, optimizer="sgd")
    for worker in workers:
        worker.post(
            "/rounds/train",
            TrainRound(
                training_id=kind, round=number, model=_MODEL, base_digest=base, dataset="/data/train.json",
                hyperparameters=hyperparameters, aggregator=aggregator.peer, path=path,
            ),
        )  # fmt: skip
    while True:
        answer = aggregator.http.get(f"/trainings/{kind}/rounds/{number}", params={"role": "aggregator", "wait": "50"})
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        if found["state"] != "collecting":
            if found["state"] != "done" or found["fallback"]:
                raise RuntimeError(f"{kind}, {len(workers)} workers: {found['problem'] or found['fallback']}")
            return found, time.perf_counter() - started


def measure(kind: str, rounds: int, aggregator: Fleeting, workers: Sequence[Fleeting]) -> _Row:
    """Run one warm-up round and `rounds` measured rounds."""
    ready = aggregator.post("/trainings", InitTraining(training_id=kind, model=_MODEL))
    base, seconds, worker_memory, aggregator_memory = ready["digest"], list[float](), 0, 0
    for number in range(1, rounds + 2):
        before = {}
        for agent in (aggregator, *workers):
            agent.forget_peak()
            before[agent.peer.node_id] = agent.memory("VmRSS")
        found, took = _round(kind, number, base, aggregator, workers)
        base = found["digest"]
        if number == 1:
            continue
        seconds.append(took)
        grown = [agent.memory("VmHWM") - before[agent.peer.node_id] for agent in (aggregator, *workers)]
        aggregator_memory, worker_memory = max(aggregator_memory, grown[0]), max(worker_memory, *grown[1:])
    # The agents would find an equal model of another topology by its digest, and not download it.
    for agent in (aggregator, *workers):
        shutil.rmtree(agent.root / "model")
    traffic: dict[str, int] = {}
    for link in found["links"]:
        for end in (link["source"], link["target"]):
            traffic[end] = traffic.get(end, 0) + link["bytes"]
    return _Row(
        len(workers), kind, ready["bytes"], sum(link["bytes"] for link in found["links"]), max(traffic.values()),
        statistics.median(seconds), worker_memory, aggregator_memory,
    )  # fmt: skip


_HEAD = (
    "| workers | topology | models sent | by the busiest agent | seconds | against star | worker MiB | aggregator MiB |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- |"
)


def lines(rows: Sequence[_Row]) -> str:
    """Return the table rows of one number of workers. The first row is the star, the reference."""
    return "\n".join(
        f"| {row.workers} | {row.kind} | {row.total_bytes / row.model_bytes:.1f} "
        f"| {row.busiest_bytes / row.model_bytes:.1f} | {row.seconds:.2f} | {row.seconds / rows[0].seconds:.2f}x "
        f"| {row.worker_memory / _MIB:.1f} | {row.aggregator_memory / _MIB:.1f} |"
        for row in rows
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.topologies", description=__doc__.splitlines()[0])
    parser.add_argument("--workers", default="2,4,8,16,32")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(_HEAD, flush=True)
    for count in map(int, given.workers.split(",")):
        with _agents(count) as (aggregator, workers):
            kinds = ("star", "mesh", "ring", "hierarchical")
            rows = [measure(kind, given.rounds, aggregator, workers) for kind in kinds]
        print(lines(rows), flush=True)
        for found in rows:
            row(f"{found.kind}, {count} workers, model of {found.model_bytes / _MIB:.0f} MiB", found.figures)
    print(f"One model is {rows[0].model_bytes / _MIB:.2f} MiB.")


if __name__ == "__main__":
    main()

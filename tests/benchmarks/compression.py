"""The accuracy that compression costs, and the bytes that it saves.

    python -m tests.benchmarks.compression [--data FOLDER] [--model minilm] [--samples 500]
        [--ways none topk+int8]

FedAvg runs over four shards in one process, with the same seed for each way. Each worker's update
goes through the file that would travel. Training uses `--samples` of each shard. The test uses all
test texts.
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch

from tests.benchmarks.rows import row
from tests.benchmarks.simulated import Feedback
from workers.agent.modeling import freezing
from workers.agent.protocol.common import ModelSpec
from workers.agent.protocol.training import Compression, Hyperparameters, TrainReport
from workers.agent.storage import tensors
from workers.agent.storage.tensors import State
from workers.agent.updates.packing import pack
from workers.agent.updates.validation import validate_update

WAYS = {
    "none": Compression(),
    "fp16": Compression(values="fp16"),
    "int8": Compression(values="int8"),
    "topk+int8": Compression(values="int8", sparse=True, ratio=0.04),
    "lora": Compression(),
    "lora+int8": Compression(values="int8"),
}
_RANK = 8


class _Way:
    """Updates that go through the file that would travel.

    The values that a sparse update omits wait for the worker's next update.
    """

    def __init__(self, wanted: Compression, frozen: frozenset[str], path: Path) -> None:
        self._wanted = wanted
        self._frozen = frozen
        self._path = path
        self._owed: dict[int, State | None] = {}
        self.bytes = 0

    def sent(self, number: int, worker: int, base: State, trained: State) -> State:
        random = torch.Generator().manual_seed(100 * number + worker)
        packed = pack(trained, base, self._frozen, self._wanted, self._owed.get(worker), random)
        self._owed[worker] = packed.residual
        report = TrainReport(node_id="w", training_id="t", round=number, state="done", samples=1)
        self.bytes += tensors.write_parts(self._path, packed.parts, {"report": report.model_dump_json()}).bytes
        return validate_update(self._path, "w", base, self._frozen, self._wanted).state


def measure(way: str, given: argparse.Namespace, scratch: Path) -> tuple[float, float]:
    """Return (bytes as a fraction of whole fp32 models, accuracy)."""
    started = time.perf_counter()
    rank = _RANK if way.startswith("lora") else 0
    spec = ModelSpec(architecture="transformer", model=given.model, labels=["negative", "positive"], lora_rank=rank)
    feedback = Feedback.of(given.data, spec, scratch, samples=given.samples)
    model = feedback.network.model
    channel = _Way(WAYS[way], freezing.frozen_names(model, 0), scratch / "update")
    rate = given.learning_rate * (10 if rank else 1)
    wanted = Hyperparameters(batch_size=32, learning_rate=rate, optimizer="adamw", mixed_precision=True)
    accuracy = feedback.rounds([wanted] * given.rounds, sent=channel.sent)
    whole = 4 * sum(parameter.numel() for parameter in model.parameters()) * len(feedback.shards) * given.rounds
    print(f"{way:10} {time.perf_counter() - started:.0f} s", flush=True)
    return channel.bytes / whole, accuracy


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=Path("../shared/data/product_feedback"))
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    print(f"{given.model}: 4 workers x {given.samples} samples, {given.rounds} rounds")
    plain: float | None = None
    with tempfile.TemporaryDirectory() as folder:
        for way in given.ways:
            share, accuracy = measure(way, given, Path(folder))
            plain = accuracy if plain is None else plain
            figure = (
                f"{share:.2%} of fp32 bytes, {accuracy:.2%} ({100 * (accuracy - plain):+.2f} points against {given.ways[0]})"
            )
            goal = "at most 6 % of the bytes, at most 0.5 points less" if way in ("topk+int8", "lora", "lora+int8") else ""
            row(f"compression {way}", figure, goal)


if __name__ == "__main__":
    main()

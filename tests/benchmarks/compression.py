"""What compression costs in accuracy and saves in bytes: FedAvg over four shards in one process, the same seed for each way.

    python -m tests.benchmarks.compression [--data FOLDER] [--model minilm] [--samples 500] [--rounds 2] [--ways none topk+int8]

Each worker's update goes through the file that would travel. `--samples` of each shard are trained on, `--test` are asked.
"""

import argparse
import tempfile
import threading
import time
from pathlib import Path

import torch

from workers.agent import data, freezing, tensors
from workers.agent.admission import admit
from workers.agent.batches import Encoded
from workers.agent.evaluate import score
from workers.agent.model import Network, build
from workers.agent.paths import Root
from workers.agent.protocol import Autonomy, Compression, Hyperparameters, ModelSpec, TrainReport
from workers.agent.strategies.fedavg import FedAvg
from workers.agent.tensors import State
from workers.agent.train import Job, Shard, train
from workers.agent.update import pack

WAYS = {
    "none": Compression(),
    "fp16": Compression(values="fp16"),
    "int8": Compression(values="int8"),
    "topk+int8": Compression(values="int8", sparse=True, ratio=0.04),
    "lora": Compression(),
    "lora+int8": Compression(values="int8"),
}
_RANK = 8


def measure(way: str, given: argparse.Namespace, root: Root) -> None:
    started = time.perf_counter()
    rank = _RANK if way.startswith("lora") else 0
    rate = given.learning_rate * (10 if rank else 1)
    spec = ModelSpec(architecture="transformer", model=given.model, labels=["negative", "positive"], lora_rank=rank)
    network = build(spec, root)
    frozen = freezing.frozen_names(network.model, 0)
    shards, test = loaded(network, given)
    state = {name: tensor.clone() for name, tensor in tensors.state_of(network.model).items()}
    owed: list[State | None] = [None] * len(shards)
    sent, whole = 0, 4 * sum(tensor.numel() for tensor in state.values())
    path = root.folder / "update"
    for number in range(1, given.rounds + 1):
        mean = FedAvg()
        wanted = Hyperparameters(batch_size=32, learning_rate=rate, optimizer="adamw", mixed_precision=True, seed=0)
        for worker, shard in enumerate(shards):
            tensors.load_into(network.model, state)
            job = Job(number, wanted, Autonomy(), "", commit=False, stop=threading.Event(), progress=lambda _part: None)
            train(network, Shard(shard, shard), job)
            random = torch.Generator().manual_seed(100 * number + worker)
            packed = pack(tensors.state_of(network.model), state, frozen, WAYS[way], owed[worker], random)
            owed[worker] = packed.residual
            report = TrainReport(node_id="w", training_id="t", round=number, state="done", samples=len(shard))
            sent += tensors.write_parts(path, packed.parts, {"report": report.model_dump_json()}).bytes
            mean.add(admit(path, "w", state, frozen, WAYS[way]).state, len(shard))
        state = mean.result()
    tensors.load_into(network.model, state)
    _, accuracy = score(network, test)
    share = sent / (whole * len(shards) * given.rounds)
    print(f"{way:10} {share:7.2%} of fp32 bytes, accuracy {accuracy:.2%}, {time.perf_counter() - started:.0f} s", flush=True)


def loaded(network: Network, given: argparse.Namespace) -> tuple[list[Encoded], Encoded]:
    encoded, source = network.encoded, Root(given.data)
    parts = [data.read(source, f"/train_shard_{number}.json").take(range(given.samples)) for number in (1, 2, 3, 4)]
    test = data.read(source, "/test.json").take(range(given.test))
    return [encoded(part.texts, part.labels) for part in parts], encoded(test.texts, test.labels)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=Path("../shared/data/product_feedback"))
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--test", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    print(f"{given.model}: 4 workers x {given.samples} samples, {given.rounds} rounds, {given.test} test texts")
    with tempfile.TemporaryDirectory() as folder:
        for way in given.ways:
            measure(way, given, Root(Path(folder)))


if __name__ == "__main__":
    main()

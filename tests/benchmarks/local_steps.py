"""The time that mixed precision and frozen layers save in the training of one worker.

    python -m tests.benchmarks.local_steps [--data FOLDER] [--model minilm] [--samples 192]
        [--threads 2]

It runs in one process without a stack. The ratios are from the same run. `minilm` needs the extra
`pretrained`. `large` is trained from scratch and needs nothing. It takes about a minute on two idle
cores.
"""

import argparse
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks.rows import row
from workers.agent.datasets import shards
from workers.agent.datasets.batches import EncodedShard, EncodedTexts
from workers.agent.modeling import freezing
from workers.agent.modeling.network import Network, build
from workers.agent.protocol.common import Autonomy, ModelSpec
from workers.agent.protocol.training import Hyperparameters
from workers.agent.runtime.paths import SandboxRoot
from workers.agent.storage import tensors
from workers.agent.training.local_epochs import LocalTrainingTask, train

_REPEATS = 2


def epoch_seconds(network: Network, samples: EncodedTexts, *, bf16: bool, frozen: int, number: int) -> float:
    wanted = Hyperparameters(batch_size=32, learning_rate=1e-4, optimizer="adamw", mixed_precision=bf16, freeze_layers=frozen)
    job = LocalTrainingTask(
        number, wanted, Autonomy(), "0" * 64, commit=False, stop=threading.Event(), progress=lambda _part: None
    )
    return train(network, EncodedShard(samples, samples), job).seconds


def measure(network: Network, samples: EncodedTexts) -> None:
    config: Any = network.model.config
    count, layers = len(samples), int(config.num_hidden_layers)
    whole = sum(parameter.numel() for parameter in network.model.parameters())
    print(f"{count} samples, {whole / 1e6:.1f} M parameters, {layers} layers, {torch.get_num_threads()} threads")
    times: dict[tuple[bool, int], list[float]] = {}
    cached = {0: samples}
    with tempfile.TemporaryDirectory() as folder:
        for frozen in (layers // 2, layers - 1):
            started = time.perf_counter()
            cached[frozen] = freezing.with_activations(network.model, frozen, samples, Path(folder))
            print(f"the first {frozen} layers' part of every sample, once: {time.perf_counter() - started:.1f} s")
        for number in range(1, _REPEATS + 2):
            for bf16 in (False, True):
                for frozen, encoded in cached.items():
                    seconds = epoch_seconds(network, encoded, bf16=bf16, frozen=frozen, number=number)
                    if number > 1:  # the first run warms up
                        times.setdefault((bf16, frozen), []).append(seconds)
    plain = statistics.median(times[False, 0])
    for (bf16, frozen), measured in sorted(times.items()):
        median = statistics.median(measured)
        names = freezing.frozen_names(network.model, frozen)
        sent = sum(tensor.numel() for name, tensor in tensors.state_of(network.model).items() if name not in names)
        print(
            f"{'bf16' if bf16 else 'fp32'}, {frozen} frozen: {median:6.2f} s an epoch, {count / median:6.1f} samples/s,"
            f" {plain / median:5.2f} x fp32 with none frozen; an update is {sent / whole:.1%} of the model",
            flush=True,
        )
    gain = plain / statistics.median(times[True, 0])
    row(
        f"a training step in bf16, {torch.get_num_threads()} threads",
        f"{gain:.2f} times as fast as fp32",
        "at least 1.4 times",
    )
    kept = plain / statistics.median(times[True, layers // 2])
    row(f"bf16 and {layers // 2} of {layers} layers frozen and kept", f"{kept:.2f} times as fast as fp32 with none")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=Path("../shared/data/product_feedback"))
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--samples", type=int, default=192)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    root = SandboxRoot(given.data)
    found = shards.read(root, "/train_shard_1.json")
    labels = sorted({label for label in found.labels if label})
    network = build(ModelSpec(architecture="transformer", model=given.model, labels=labels), root)
    measure(network, network.encoded(found.texts[: given.samples], found.labels[: given.samples]))


if __name__ == "__main__":
    main()

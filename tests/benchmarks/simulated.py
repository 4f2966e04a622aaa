"""Federated rounds in one process, with the agents' own code.

It measures how a setting changes the accuracy, without the delays of a stack.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from workers.agent.datasets import shards as data
from workers.agent.datasets.batches import EncodedShard, EncodedTexts
from workers.agent.modeling import freezing
from workers.agent.modeling.held_out_metrics import loss_and_accuracy
from workers.agent.modeling.network import Network, build
from workers.agent.protocol.aggregation import StrategySpec
from workers.agent.protocol.common import Autonomy, ModelSpec
from workers.agent.protocol.training import Hyperparameters
from workers.agent.runtime.paths import SandboxRoot
from workers.agent.storage import tensors
from workers.agent.storage.tensors import State
from workers.agent.strategies.fedavg import FedAvg
from workers.agent.strategies.registry import build_strategy
from workers.agent.training.local_epochs import LocalTrainingTask, train

Sent = Callable[[int, int, State, State], State]
"""Maps (round, worker, base, trained) to the model that the aggregator sees."""


def as_it_is(_round: int, _worker: int, _base: State, trained: State) -> State:
    return trained


@dataclass(frozen=True, slots=True)
class Feedback:
    """Four shards and the test texts, encoded. With frozen layers they include activations."""

    network: Network
    shards: Sequence[EncodedTexts]
    test: EncodedTexts

    @classmethod
    def of(cls, folder: Path, spec: ModelSpec, scratch: Path, *, frozen: int = 0, samples: int | None = None) -> "Feedback":
        network, source = build(spec, SandboxRoot(scratch)), SandboxRoot(folder)
        parts = [data.read(source, f"/train_shard_{number}.json") for number in (1, 2, 3, 4)]
        texts = [(part.texts[:samples], part.labels[:samples]) for part in parts]
        test = data.read(source, "/test.json")
        encoded = [network.encoded(*part) for part in (*texts, (test.texts, test.labels))]
        if frozen:
            encoded = [freezing.with_activations(network.model, frozen, part, scratch) for part in encoded]
        return cls(network, encoded[:-1], encoded[-1])

    def pooled(self) -> "Feedback":
        """Return all shards as one, for the training of a single process with all data."""
        return replace(self, shards=[_joined(self.shards)])

    def rounds(
        self,
        wanted: Sequence[Hyperparameters],
        strategy: StrategySpec = StrategySpec(),
        sent: Sent = as_it_is,
        seen: Callable[[int, float], None] | None = None,
    ) -> float:
        """Return the test accuracy after one round for each of the hyperparameters.

        The network has its initial weights again at the end.
        """
        chosen = build_strategy(strategy)
        first = _copy(tensors.state_of(self.network.model))
        state, memory = _copy(first), State()
        moments: dict[int, dict[str, Any] | None] = {}
        for number, hyperparameters in enumerate(wanted, start=1):
            updates = []
            for worker, shard in enumerate(self.shards):
                tensors.load_into(self.network.model, state)
                going_on = moments.get(worker)
                moments[worker] = train(
                    self.network, EncodedShard(shard, shard), _job(number, hyperparameters, going_on)
                ).moments
                updates.append(sent(number, worker, state, _copy(tensors.state_of(self.network.model))))
            if chosen.rule is not None:
                combined = chosen.rule(updates)
            else:
                mean = FedAvg()
                for update, shard in zip(updates, self.shards, strict=True):
                    mean.add(update, len(shard))
                combined = mean.result()
            if chosen.server is not None:
                combined, memory = chosen.server.step(state, combined, memory)
            state = combined
            if seen is not None:
                tensors.load_into(self.network.model, state)
                seen(number, loss_and_accuracy(self.network, self.test)[1])
        tensors.load_into(self.network.model, state)
        accuracy = loss_and_accuracy(self.network, self.test)[1]
        tensors.load_into(self.network.model, first)
        return accuracy


def _job(number: int, wanted: Hyperparameters, moments: dict[str, Any] | None) -> LocalTrainingTask:
    stop = threading.Event()
    return LocalTrainingTask(
        number, wanted, Autonomy(), "", commit=False, stop=stop, progress=lambda _part: None, moments=moments
    )


def _joined(parts: Sequence[EncodedTexts]) -> EncodedTexts:
    ends = np.cumsum([len(part.ids) for part in parts])
    starts = [part.offsets[:-1] + end - len(part.ids) for part, end in zip(parts, ends, strict=True)]
    return replace(
        parts[0],
        ids=np.concatenate([part.ids for part in parts]),
        offsets=np.concatenate([*starts, ends[-1:]]),
        labels=np.concatenate([part.labels for part in parts if part.labels is not None]),
        activations=None
        if parts[0].activations is None
        else np.concatenate([part.activations for part in parts if part.activations is not None]),
    )


def _copy(state: State) -> State:
    return {name: tensor.clone() for name, tensor in state.items()}

"""Real agents with pooled data at their aggregator, and the same training in this process."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from api.domain import topology
from tests.workers.agent import agents
from tests.workers.agent.datasets.reference_split import split
from tests.workers.agent.texts import samples
from workers.agent.datasets import shards
from workers.agent.datasets.batches import EncodedTexts
from workers.agent.modeling.held_out_metrics import probabilities
from workers.agent.modeling.network import Network, build
from workers.agent.protocol.exchange import DataPath
from workers.agent.protocol.training import Hyperparameters
from workers.agent.runtime.paths import SandboxRoot
from workers.agent.storage import tensors
from workers.agent.synchronous import shares
from workers.agent.training.local_epochs import OPTIMIZERS

WANTED = {"batch_size": 8, "learning_rate": 0.01, "optimizer": "adam", "seed": 3, "local_epochs": 2}


@contextmanager
def pool(workers: int, count: int = 70) -> Iterator[agents.Federation]:
    """Start an aggregator with data, and workers without data or dropout."""
    with agents.federation(workers, 4) as federation:
        for agent in (federation.aggregator, *federation.workers):
            config = agent.root / "models/tiny/config.json"
            still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
            config.write_text(json.dumps({**json.loads(config.read_text()), **still}))
        for number, worker in enumerate(federation.workers):
            (worker.root / f"data/train_{number}.json").unlink()
        federation.aggregator.put("/data/train_0.json", samples(count))
        federation.aggregator.call("POST", "/trainings/other/stop")
        federation.init(model=agents.MODEL.model_copy(update={"max_length": 31}))
        yield federation


def path(federation: agents.Federation, kind: str) -> DataPath | None:
    peers = [worker.peer for worker in federation.workers]
    groups = topology.groups([peer.node_id for peer in peers]) if kind == "hierarchical" else []
    return None if kind == "star" else DataPath(kind=kind, peers=peers, groups=groups, wait_s=60)


def begin(federation: agents.Federation, number: int, kind: str, **wanted: Any) -> None:
    model = agents.MODEL.model_copy(update={"max_length": 31})
    hyperparameters = Hyperparameters(**{**WANTED, **wanted})
    federation.collect(number, model=model, synchronous=hyperparameters, path=path(federation, kind))


def ran(federation: agents.Federation, number: int, kind: str, **wanted: Any) -> dict[str, Any]:
    begin(federation, number, kind, **wanted)
    report = federation.aggregated(number)
    assert report["state"] == "done", report["problem"]
    federation.base = report["digest"]
    return report


def underway(worker: agents.LiveAgent) -> bool:
    """Return whether a worker has taken a step of the first round."""
    answer = worker.http.get(f"/trainings/{agents.TRAINING}/rounds/1?role=worker")
    return bool(answer.json().get("progress"))


class Alone:
    """The same steps on the same pooled batches, in plain torch."""

    def __init__(self, federation: agents.Federation, **wanted: Any) -> None:
        self.wanted = Hyperparameters(**{**WANTED, **wanted})
        root = SandboxRoot(federation.aggregator.root)
        self.network: Network = build(agents.MODEL.model_copy(update={"max_length": 31}), root)
        tensors.load_into(self.network.model, agents.global_model(federation))
        kept, _ = split(shards.read(root, agents.DATASET))
        self.data: EncodedTexts = self.network.encoded(kept.texts, kept.labels)
        self.optimizer = OPTIMIZERS[self.wanted.optimizer](self.network.model.parameters(), lr=self.wanted.learning_rate)

    def round(self, number: int, workers: int) -> None:
        count = len(self.data)
        steps = shares.steps(count, self.wanted.batch_size)
        for epoch in range(self.wanted.local_epochs):
            parts: list[Sequence[Any]] = []
            for place in range(workers):
                share = shares.share(count, workers, place)
                seed = (self.wanted.seed, number, epoch)
                parts.append([share[of] for of in shares.batches(len(share), steps, place, seed)])
            for step in range(steps):
                batch = np.concatenate([of[step] for of in parts])
                loss = nn.functional.cross_entropy(self.network.logits(*self.data.batch(batch)), self.data.targets(batch))
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()

    def distance(self, state: dict[str, torch.Tensor]) -> float:
        """Return the largest difference of any weight."""
        expected = tensors.state_of(self.network.model)
        return max(float((expected[name] - tensor).abs().max()) for name, tensor in state.items())

    def disagreement(self, state: dict[str, torch.Tensor]) -> float:
        """Return the largest difference of any probability, over all pooled samples.

        This overwrites the network's weights with `state`.
        """
        expected = probabilities(self.network, self.data)
        tensors.load_into(self.network.model, state)
        return float((expected - probabilities(self.network, self.data)).abs().max())

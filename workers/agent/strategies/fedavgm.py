"""FedAvgM: FedAvg with momentum on the server.

Hsu, Qi and Brown, "Measuring the Effects of Non-Identical Data Distribution for Federated Visual Classification", 2019,
arXiv:1909.06335. With D the global model less the clients' mean: v <- momentum v + D, x <- x - lr v.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from workers.agent.storage.tensors import State


@dataclass(frozen=True, slots=True)
class ServerMomentum:
    """A server optimiser; its memory holds `v/<name>` for each parameter."""

    learning_rate: float
    momentum: float

    def step(
        self, base: Mapping[str, torch.Tensor], mean: Mapping[str, torch.Tensor], memory: Mapping[str, torch.Tensor]
    ) -> tuple[State, State]:
        """(next global model, next memory); an empty `memory` begins anew."""
        model: State = {}
        kept: State = {}
        for name, own in base.items():
            velocity = memory.get(f"v/{name}", torch.zeros_like(own)) * self.momentum + (own - mean[name])
            model[name] = own - self.learning_rate * velocity
            kept[f"v/{name}"] = velocity
        return model, kept

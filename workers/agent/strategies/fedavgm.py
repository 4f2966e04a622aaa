"""FedAvgM: FedAvg with momentum on the server.

Hsu, Qi and Brown, "Measuring the Effects of Non-Identical Data Distribution for Federated Visual
Classification", 2019, arXiv:1909.06335. D is the global model x minus the clients' mean. The step
is:

    `v <- momentum v + D`
    `x <- x - lr v`
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from workers.agent.storage.tensors import State


@dataclass(frozen=True, slots=True)
class ServerMomentum:
    """A server optimizer. Its state holds `v/<name>` for each parameter."""

    learning_rate: float
    momentum: float

    def step(
        self, base: Mapping[str, torch.Tensor], mean: Mapping[str, torch.Tensor], optimizer_state: Mapping[str, torch.Tensor]
    ) -> tuple[State, State]:
        """Return the next global model and the next optimizer state.

        An empty `optimizer_state` starts a new state.
        """
        model: State = {}
        next_state: State = {}
        for name, parameter in base.items():
            velocity = optimizer_state.get(f"v/{name}", torch.zeros_like(parameter)) * self.momentum + (parameter - mean[name])
            model[name] = parameter - self.learning_rate * velocity
            next_state[f"v/{name}"] = velocity
        return model, next_state

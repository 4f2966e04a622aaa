"""DiLoCo: many inner AdamW steps on each worker, one outer Nesterov step on the server.

Douillard et al., "DiLoCo: Distributed Low-Communication Training of Language Models", 2023,
arXiv:2311.08105, Algorithm 1. The inner optimizer's moments stay on each worker from round to round
(local_epochs.py). The outer gradient D is the global model x minus the workers' mean. The step is:

    `v <- momentum v + D`
    `x <- x - lr (D + momentum v)`
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from workers.agent.storage.tensors import State


@dataclass(frozen=True, slots=True)
class OuterNesterov:
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
            outer = parameter - mean[name]
            velocity = optimizer_state.get(f"v/{name}", torch.zeros_like(parameter)) * self.momentum + outer
            model[name] = parameter - self.learning_rate * (outer + self.momentum * velocity)
            next_state[f"v/{name}"] = velocity
        return model, next_state

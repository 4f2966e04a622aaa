"""DiLoCo: many inner AdamW steps on each worker, one outer Nesterov step on the server.

Douillard et al., "DiLoCo: Distributed Low-Communication Training of Language Models", 2023, arXiv:2311.08105, Algorithm 1.
The inner optimiser's moments stay on each worker from round to round (train.py). The outer gradient D is the global model
less the workers' mean; Nesterov: v <- momentum v + D, x <- x - lr (D + momentum v).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from workers.agent.storage.tensors import State


@dataclass(frozen=True, slots=True)
class OuterNesterov:
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
            outer = own - mean[name]
            velocity = memory.get(f"v/{name}", torch.zeros_like(own)) * self.momentum + outer
            model[name] = own - self.learning_rate * (outer + self.momentum * velocity)
            kept[f"v/{name}"] = velocity
        return model, kept

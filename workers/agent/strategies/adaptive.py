"""What FedAdagrad, FedYogi and FedAdam share: an adaptive server step along the mean client update.

Reddi et al., "Adaptive Federated Optimization", ICLR 2021, arXiv:2003.00295, Algorithm 2. With D the mean of the clients'
models less the global model: m <- b1 m + (1 - b1) D, v <- (each method's own), x <- x + lr m / (sqrt(v) + tau), where m
begins at 0 and v at tau squared. There is no bias correction, as in the paper.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from workers.agent.storage.tensors import State

SecondMoment = Callable[[torch.Tensor, torch.Tensor, float], torch.Tensor]
"""(v, D squared, b2) -> the new v."""


@dataclass(frozen=True, slots=True)
class AdaptiveOptimizer:
    """A server optimiser; its memory holds `m/<name>` and `v/<name>` for each parameter."""

    second: SecondMoment
    learning_rate: float
    beta_1: float
    beta_2: float
    tau: float

    def step(
        self, base: Mapping[str, torch.Tensor], mean: Mapping[str, torch.Tensor], memory: Mapping[str, torch.Tensor]
    ) -> tuple[State, State]:
        """(next global model, next memory); an empty `memory` begins anew."""
        model: State = {}
        kept: State = {}
        for name, own in base.items():
            moved = mean[name] - own
            first = memory.get(f"m/{name}", torch.zeros_like(own)) * self.beta_1 + moved * (1 - self.beta_1)
            second = self.second(memory.get(f"v/{name}", torch.full_like(own, self.tau**2)), moved.square(), self.beta_2)
            model[name] = own + self.learning_rate * first / (second.sqrt() + self.tau)
            kept[f"m/{name}"], kept[f"v/{name}"] = first, second
        return model, kept

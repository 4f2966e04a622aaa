"""The adaptive server step of FedAdagrad, FedYogi and FedAdam.

Reddi et al., "Adaptive Federated Optimization", ICLR 2021, arXiv:2003.00295, Algorithm 2.
D is the mean of the clients' models minus the global model x. The step is:

    `m <- b1 m + (1 - b1) D`
    `v <- the second moment of the method`
    `x <- x + lr m / (sqrt(v) + tau)`

m starts at 0, and v starts at tau squared. There is no bias correction, as in the paper.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from workers.agent.storage.tensors import State

SecondMoment = Callable[[torch.Tensor, torch.Tensor, float], torch.Tensor]
"""Maps (v, D squared, b2) to the new v."""


@dataclass(frozen=True, slots=True)
class AdaptiveOptimizer:
    """A server optimizer. Its state holds `m/<name>` and `v/<name>` for each parameter."""

    second: SecondMoment
    learning_rate: float
    beta_1: float
    beta_2: float
    tau: float

    def step(
        self, base: Mapping[str, torch.Tensor], mean: Mapping[str, torch.Tensor], optimizer_state: Mapping[str, torch.Tensor]
    ) -> tuple[State, State]:
        """Return the next global model and the next optimizer state.

        An empty `optimizer_state` starts a new state.
        """
        model: State = {}
        next_state: State = {}
        for name, parameter in base.items():
            difference = mean[name] - parameter
            first = optimizer_state.get(f"m/{name}", torch.zeros_like(parameter)) * self.beta_1 + difference * (1 - self.beta_1)
            second = self.second(
                optimizer_state.get(f"v/{name}", torch.full_like(parameter, self.tau**2)), difference.square(), self.beta_2
            )
            model[name] = parameter + self.learning_rate * first / (second.sqrt() + self.tau)
            next_state[f"m/{name}"], next_state[f"v/{name}"] = first, second
        return model, next_state

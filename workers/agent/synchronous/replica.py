"""One worker's copy of the model in a synchronous round.

Each copy sends its gradients as sums, and all copies take the same step. Goyal et al., "Accurate,
Large Minibatch SGD", 2017, arXiv:1706.02677, section 2: the gradient of the global batch is the
mean over all its samples, on whatever worker they are. Every copy's optimizer sees that same
gradient.
"""

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from workers.agent.datasets.batches import EncodedTexts
from workers.agent.modeling import precision
from workers.agent.modeling.network import RNG, Network
from workers.agent.protocol.training import Hyperparameters
from workers.agent.runtime.errors import AgentError
from workers.agent.training.local_epochs import OPTIMIZERS, hidden, load_moments

# The last numbers of a vector, after the gradients: samples, summed loss, right predictions.
FIGURES = 3


def length(network: Network) -> int:
    """Return the count of numbers in a step's vector."""
    return sum(parameter.numel() for parameter in network.model.parameters()) + FIGURES


class Replica:
    """Hold the cache's lock while a replica is in use.

    `place` is the worker's index. It makes dropout different at each worker. `moments` is the
    optimizer's state (torch's state dict) after the round before.
    """

    def __init__(
        self,
        network: Network,
        data: EncodedTexts,
        hyperparameters: Hyperparameters,
        number: int,
        place: int,
        moments: dict[str, Any] | None,
    ) -> None:
        self._network = network
        self._data = data
        self._hyperparameters = hyperparameters
        self._parameters = list(network.model.parameters())
        self._optimizer = OPTIMIZERS[hyperparameters.optimizer](
            self._parameters, lr=hyperparameters.learning_rate, weight_decay=hyperparameters.weight_decay
        )
        if moments is not None:
            load_moments(self._optimizer, moments)
        generator = torch.Generator()
        generator.manual_seed((hyperparameters.seed * 1_000_003 + number) * 4099 + place)
        self._random = generator.get_state()
        self._used: list[bool] = []
        network.model.train()

    def gradient(self, batch: NDArray[np.int64]) -> torch.Tensor:
        """Return the gradients of the loss summed over `batch`, then its metrics, flat fp32.

        Raises: AgentError `diverged` if the loss is not finite.
        """
        network, weight = self._network, 1.0
        if not len(batch):  # This worker has no sample of this global batch: its gradients are zero.
            batch, weight = np.zeros(1, np.int64), 0.0
        targets = self._data.targets(batch)
        self._optimizer.zero_grad(set_to_none=True)
        with RNG, torch.random.fork_rng(devices=[]):
            torch.set_rng_state(self._random)
            ids, mask = self._data.batch(batch)
            with precision.autocast(network.model, enabled=self._hyperparameters.mixed_precision):
                logits = network.logits(hidden(network, ids), mask).float()
            loss = nn.functional.cross_entropy(logits, targets, label_smoothing=network.label_smoothing, reduction="sum")
            (loss * weight).backward()
            self._random = torch.get_rng_state()
        value = float(nn.functional.cross_entropy(logits.detach(), targets, reduction="sum"))
        if not math.isfinite(value):
            raise AgentError("diverged", "the training loss is not finite; try a lower learning rate")
        right = float((logits.detach().argmax(1) == targets).sum())
        self._used = [parameter.grad is not None for parameter in self._parameters]
        parts = [_gradient_of(parameter) for parameter in self._parameters]
        metrics = torch.tensor([len(batch), value, right]) * weight
        return torch.cat([*(part.flatten() for part in parts), metrics])

    def step(self, total: torch.Tensor) -> None:
        """Take an optimizer step. `total` is the sum of all workers' vectors."""
        mean = total[:-FIGURES] / total[-FIGURES]
        sizes = [parameter.numel() for parameter in self._parameters]
        for parameter, used, part in zip(self._parameters, self._used, mean.split(sizes), strict=True):
            parameter.grad = part.view_as(parameter) if used else None
        self._optimizer.step()

    def moments(self) -> dict[str, Any]:
        """Return the optimizer's state, with which the next round begins."""
        return self._optimizer.state_dict()

    def close(self) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        self._network.model.eval()


def _gradient_of(parameter: nn.Parameter) -> torch.Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad

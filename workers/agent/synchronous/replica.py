"""One worker's copy of the model in a synchronous round: its gradients go out as sums, and all copies take the same step.

Goyal et al., "Accurate, Large Minibatch SGD", 2017, arXiv:1706.02677, section 2: the gradient of the global batch is the mean
over all its samples, wherever they are, and every copy's optimizer sees that same gradient.
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
from workers.agent.training.local_epochs import OPTIMIZERS, go_on_from, hidden

# Behind the gradients in a vector: samples, summed loss, samples that were right.
FIGURES = 3


def length(network: Network) -> int:
    """Numbers in a step's vector."""
    return sum(parameter.numel() for parameter in network.model.parameters()) + FIGURES


class Replica:
    """`place` sets apart what dropout hides at each worker. Hold the shelf's lock while a replica is in use."""

    def __init__(
        self,
        network: Network,
        data: EncodedTexts,
        wanted: Hyperparameters,
        number: int,
        place: int,
        moments: dict[str, Any] | None,
    ) -> None:
        self._network = network
        self._data = data
        self._wanted = wanted
        self._parameters = list(network.model.parameters())
        self._optimizer = OPTIMIZERS[wanted.optimizer](
            self._parameters, lr=wanted.learning_rate, weight_decay=wanted.weight_decay
        )
        if moments is not None:
            go_on_from(self._optimizer, moments)
        seeded = torch.Generator()
        seeded.manual_seed((wanted.seed * 1_000_003 + number) * 4099 + place)
        self._random = seeded.get_state()
        self._used: list[bool] = []
        network.model.train()

    def gradient(self, batch: NDArray[np.int64]) -> torch.Tensor:
        """The gradients of the loss summed over `batch`, flat, fp32, and the figures behind them. AgentError `diverged`."""
        network, weight = self._network, 1.0
        if not len(batch):  # nothing of this global batch is here: no sample counts, and every gradient is zero
            batch, weight = np.zeros(1, np.int64), 0.0
        targets = self._data.targets(batch)
        self._optimizer.zero_grad(set_to_none=True)
        with RNG, torch.random.fork_rng(devices=[]):
            torch.set_rng_state(self._random)
            ids, mask = self._data.batch(batch)
            with precision.autocast(network.model, enabled=self._wanted.mixed_precision):
                logits = network.logits(hidden(network, ids), mask).float()
            loss = nn.functional.cross_entropy(logits, targets, label_smoothing=network.label_smoothing, reduction="sum")
            (loss * weight).backward()
            self._random = torch.get_rng_state()
        value = float(nn.functional.cross_entropy(logits.detach(), targets, reduction="sum"))
        if not math.isfinite(value):
            raise AgentError("diverged", "the training loss is not finite; try a lower learning rate")
        right = float((logits.detach().argmax(1) == targets).sum())
        self._used = [parameter.grad is not None for parameter in self._parameters]
        parts = [torch.zeros_like(one) if one.grad is None else one.grad for one in self._parameters]
        figures = torch.tensor([len(batch), value, right]) * weight
        return torch.cat([*(part.flatten() for part in parts), figures])

    def step(self, total: torch.Tensor) -> None:
        """Take the step that the sum over all workers' vectors asks for."""
        mean = total[:-FIGURES] / total[-FIGURES]
        sizes = [parameter.numel() for parameter in self._parameters]
        for parameter, used, part in zip(self._parameters, self._used, mean.split(sizes), strict=True):
            parameter.grad = part.view_as(parameter) if used else None
        self._optimizer.step()

    def moments(self) -> dict[str, Any]:
        """The optimizer's state, from which the next round goes on."""
        return self._optimizer.state_dict()

    def close(self) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        self._network.model.eval()

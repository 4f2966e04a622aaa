"""FedAvg: the mean of the clients' models, weighted by their numbers of samples.

McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data",
AISTATS 2017, arXiv:1602.05629.
"""

from collections.abc import Mapping

import torch


class FedAvg:
    """A running weighted mean. It needs the memory of one model for any number of updates.

    The sums are fp64, so the order of the updates hardly changes the result.
    """

    def __init__(self) -> None:
        self._sum: dict[str, torch.Tensor] = {}
        self._weight = 0

    @property
    def count(self) -> int:
        """Return the number of samples in the mean."""
        return self._weight

    def add(self, update: Mapping[str, torch.Tensor], samples: int) -> None:
        """Add one client's state. All states have the same names and shapes; `samples` > 0."""
        for name, tensor in update.items():
            if name in self._sum:
                self._sum[name].add_(tensor, alpha=samples)
            else:
                self._sum[name] = tensor.to(torch.float64).mul_(samples)
        self._weight += samples

    def result(self) -> dict[str, torch.Tensor]:
        """Return the mean as fp32.

        Raises:
            ValueError: before the first update.
        """
        if not self._weight:
            raise ValueError("nothing to average")
        return {name: (total / self._weight).to(torch.float32) for name, total in self._sum.items()}

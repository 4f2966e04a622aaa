"""FedAvg: the mean of the clients' models, weighted by their numbers of samples.

McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data", AISTATS 2017, arXiv:1602.05629.
"""

from collections.abc import Mapping

import torch


class FedAvg:
    """A running weighted mean: memory for one model, however many updates come. Sums are fp64: their order hardly matters."""

    def __init__(self) -> None:
        self._sum: dict[str, torch.Tensor] = {}
        self._weight = 0

    @property
    def count(self) -> int:
        return self._weight

    def add(self, update: Mapping[str, torch.Tensor], samples: int) -> None:
        """Fold in one client's state. All states have the same names and shapes; `samples` > 0."""
        for name, tensor in update.items():
            if name in self._sum:
                self._sum[name].add_(tensor, alpha=samples)
            else:
                self._sum[name] = tensor.to(torch.float64).mul_(samples)
        self._weight += samples

    def result(self) -> dict[str, torch.Tensor]:
        """The mean, fp32. ValueError before the first update."""
        if not self._weight:
            raise ValueError("nothing to average")
        return {name: (total / self._weight).to(torch.float32) for name, total in self._sum.items()}

"""Coordinate-wise median.

Yin et al., "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates", ICML 2018,
arXiv:1803.01498. Every client has the same weight, as in the paper. For an even number of clients,
the median is the mean of the two middle values.
"""

from collections.abc import Mapping, Sequence

import torch

from workers.agent.storage.tensors import State


def median(updates: Sequence[Mapping[str, torch.Tensor]]) -> State:
    """Return the median. It holds one tensor of every update in memory at a time."""
    return {name: _middle(torch.stack([update[name] for update in updates])) for name in updates[0]}


def _middle(values: torch.Tensor) -> torch.Tensor:
    ordered = values.sort(0).values
    count = len(ordered)
    return (ordered[(count - 1) // 2] + ordered[count // 2]) / 2

"""Coordinate-wise trimmed mean.

Yin et al., "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates", ICML 2018,
arXiv:1803.01498. In each coordinate, a fraction of the largest and of the smallest values is left
out. Every client has the same weight.
"""

from collections.abc import Mapping, Sequence

import torch

from workers.agent.storage.tensors import State


def trimmed_mean(updates: Sequence[Mapping[str, torch.Tensor]], fraction: float) -> State:
    """Return the mean without floor(fraction * n) values at each end; `fraction` < 0.5.

    It holds one tensor of every update in memory at a time.
    """
    cut = int(fraction * len(updates))
    return {name: torch.stack([update[name] for update in updates]).sort(0).values[cut : len(updates) - cut].mean(0)
            for name in updates[0]}  # fmt: skip

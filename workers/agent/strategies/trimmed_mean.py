"""Coordinate-wise trimmed mean.

Yin et al., "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates", ICML 2018, arXiv:1803.01498: in each
coordinate the largest and the smallest share of the values are left out. Every client counts the same.
"""

from collections.abc import Mapping, Sequence

import torch

from workers.agent.storage.tensors import State


def trimmed_mean(updates: Sequence[Mapping[str, torch.Tensor]], fraction: float) -> State:
    """Leaves out floor(fraction * n) values at each end; `fraction` < 0.5. One tensor of every update in memory at a time."""
    cut = int(fraction * len(updates))
    return {name: torch.stack([update[name] for update in updates]).sort(0).values[cut : len(updates) - cut].mean(0)
            for name in updates[0]}  # fmt: skip

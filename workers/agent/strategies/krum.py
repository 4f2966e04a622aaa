"""Krum: the update that is nearest to its neighbours.

Blanchard et al., "Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent", NeurIPS
2017. f of n >= 2f + 3 clients are malicious. The score of an update is the sum of squared distances
to its n - f - 2 nearest neighbours. The lowest score wins.
"""

from collections.abc import Mapping, Sequence

import torch

from workers.agent.storage.tensors import State

_PIECE = 1 << 14


def krum(updates: Sequence[Mapping[str, torch.Tensor]], byzantine: int) -> State:
    """Return a copy of the update with the best score."""
    best = ranked(squared_distances(updates), byzantine)[0]
    return {name: updates[best][name].clone() for name in updates[best]}


def squared_distances(updates: Sequence[Mapping[str, torch.Tensor]]) -> torch.Tensor:
    """Return the squared distances: fp64, shape (updates, updates).

    It holds one tensor of every update in memory at a time. It sums differences, not products.
    With products, the rounding errors of a huge update would hide the distances of the others.
    """
    total = torch.zeros(len(updates), len(updates), dtype=torch.float64)
    for name in updates[0]:
        flat = torch.stack([update[name].flatten() for update in updates])
        # Each piece fits into the processor's cache.
        for piece in flat.split(_PIECE, dim=1):
            total += torch.cdist(piece.double(), piece.double(), compute_mode="donot_use_mm_for_euclid_dist").square()
    return total


def ranked(distances: torch.Tensor, byzantine: int) -> list[int]:
    """Return the indices of the updates, the best score first. Equal scores keep their order."""
    count = len(distances)
    nearest = max(1, count - byzantine - 2)
    others = distances.clone().fill_diagonal_(torch.inf)
    scores = others.sort(1).values[:, :nearest].sum(1)
    return sorted(range(count), key=lambda index: (float(scores[index]), index))

"""Krum: the one update that lies nearest to its neighbours.

Blanchard et al., "Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent", NeurIPS 2017. An update's score is
the sum of squared distances to its n - f - 2 nearest others, f the number of malicious clients; needs n >= 2f + 3.
"""

from collections.abc import Mapping, Sequence

import torch

from workers.agent.storage.tensors import State

_PIECE = 1 << 14


def krum(updates: Sequence[Mapping[str, torch.Tensor]], byzantine: int) -> State:
    best = ranked(squared_distances(updates), byzantine)[0]
    return {name: updates[best][name].clone() for name in updates[best]}


def squared_distances(updates: Sequence[Mapping[str, torch.Tensor]]) -> torch.Tensor:
    """fp64, shape (updates, updates). One tensor of every update in memory at a time.

    Differences are summed, not products: a huge update would drown the others' distances in rounding.
    """
    total = torch.zeros(len(updates), len(updates), dtype=torch.float64)
    for name in updates[0]:
        flat = torch.stack([update[name].flatten() for update in updates])
        # In pieces that stay in the processor's cache.
        for piece in flat.split(_PIECE, dim=1):
            total += torch.cdist(piece.double(), piece.double(), compute_mode="donot_use_mm_for_euclid_dist").square()
    return total


def ranked(distances: torch.Tensor, byzantine: int) -> list[int]:
    """Indices, the best score first; of equal scores the first index."""
    count = len(distances)
    nearest = max(1, count - byzantine - 2)
    others = distances.clone().fill_diagonal_(torch.inf)
    scores = others.sort(1).values[:, :nearest].sum(1)
    return sorted(range(count), key=lambda index: (float(scores[index]), index))

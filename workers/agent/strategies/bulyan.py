"""Bulyan: Krum selects updates, then each coordinate is averaged near its median.

El Mhamdi, Guerraoui and Rouault, "The Hidden Vulnerability of Distributed Learning in Byzantium",
ICML 2018, arXiv:1802.07927. f of n >= 4f + 3 clients are malicious. Krum selects n - 2f updates,
one after another. In each coordinate, the n - 4f values nearest to the median are averaged.
"""

from collections.abc import Mapping, Sequence

import torch

from workers.agent.storage.tensors import State
from workers.agent.strategies.krum import ranked, squared_distances


def bulyan(updates: Sequence[Mapping[str, torch.Tensor]], byzantine: int) -> State:
    """Return the combined model. It holds one tensor of every chosen update in memory at a time."""
    distances = squared_distances(updates)
    remaining, chosen = list(range(len(updates))), list[int]()
    for _ in range(len(updates) - 2 * byzantine):
        best = ranked(distances[remaining][:, remaining], byzantine)[0]
        chosen.append(remaining.pop(best))
    count = len(chosen) - 2 * byzantine
    return {name: _near_median(torch.stack([updates[index][name] for index in chosen]), count) for name in updates[0]}


def _near_median(values: torch.Tensor, count: int) -> torch.Tensor:
    ordered = values.sort(0).values
    size = len(ordered)
    middle = (ordered[(size - 1) // 2] + ordered[size // 2]) / 2
    nearest = (ordered - middle).abs().sort(stable=True, dim=0).indices[:count]
    return ordered.gather(0, nearest).mean(0)

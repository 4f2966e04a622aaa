"""Bulyan: Krum chooses updates one after another, then each coordinate is the mean of the values nearest to their median.

El Mhamdi, Guerraoui and Rouault, "The Hidden Vulnerability of Distributed Learning in Byzantium", ICML 2018,
arXiv:1802.07927. With f malicious of n >= 4f + 3 clients: n - 2f updates are chosen, of which n - 4f values count.
"""

from collections.abc import Mapping, Sequence

import torch

from workers.agent.storage.tensors import State
from workers.agent.strategies.krum import ranked, squared_distances


def bulyan(updates: Sequence[Mapping[str, torch.Tensor]], byzantine: int) -> State:
    """One tensor of every chosen update in memory at a time."""
    distances = squared_distances(updates)
    left, chosen = list(range(len(updates))), list[int]()
    for _ in range(len(updates) - 2 * byzantine):
        best = ranked(distances[left][:, left], byzantine)[0]
        chosen.append(left.pop(best))
    count = len(chosen) - 2 * byzantine
    return {name: _near_median(torch.stack([updates[index][name] for index in chosen]), count) for name in updates[0]}


def _near_median(values: torch.Tensor, count: int) -> torch.Tensor:
    ordered = values.sort(0).values
    size = len(ordered)
    middle = (ordered[(size - 1) // 2] + ordered[size // 2]) / 2
    nearest = (ordered - middle).abs().sort(stable=True, dim=0).indices[:count]
    return ordered.gather(0, nearest).mean(0)

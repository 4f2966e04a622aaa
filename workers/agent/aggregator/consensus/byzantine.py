"""Byzantine-tolerant averaging: Multi-Krum, or the coordinate-wise median where a round has too few updates for it.

Blanchard et al., "Machine Learning with Adversaries", NeurIPS 2017: of n updates, f of them malicious, Multi-Krum averages
the n - f - 2 that lie nearest to their neighbours, and needs n >= 2f + 3. f is the largest that n allows, (n - 3) // 2: five
updates bear one malicious, eight bear two. Fewer than five go to the median (Yin et al., ICML 2018, arXiv:1803.01498), which
bears any minority. Every update counts the same, however many samples it claims.

Who is left out of the mean need not be malicious, so only outliers are named and rejected: updates whose distance to the others
is half as large again as is usual in the round. An update that hides among the others, such as a copy of the base, is neither
found nor needed to be: it pulls the mean towards itself by its own share at most.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from workers.agent.storage.tensors import State
from workers.agent.strategies.krum import ranked, squared_distances
from workers.agent.strategies.median import median
from workers.agent.strategies.registry import CombineRule

_FEWEST = 5
_OUTLYING = 1.5
OUTLIER = "its update lies far from the others'"


@dataclass(frozen=True, slots=True)
class Choice:
    """`rule` makes the model of the updates at the indices `accepted`; `outliers` are left out of it and named."""

    rule: CombineRule
    accepted: list[int]
    outliers: list[int]


def tolerated(updates: int) -> int:
    """f: how many malicious ones Multi-Krum bears among so many updates; 0 where it cannot be used."""
    return (updates - 3) // 2 if updates >= _FEWEST else 0


def choose(updates: Sequence[Mapping[str, torch.Tensor]]) -> Choice:
    """One tensor of every update in memory at a time."""
    count = len(updates)
    if count < 3:
        return Choice(median, list(range(count)), [])
    distances = squared_distances(updates)
    outliers = _outliers(distances.sqrt())
    byzantine = tolerated(count)
    if not byzantine:
        return Choice(median, [index for index in range(count) if index not in outliers], outliers)
    best = [index for index in ranked(distances, byzantine) if index not in outliers]
    return Choice(mean, sorted(best[: count - byzantine - 2]), outliers)


def _outliers(distances: torch.Tensor) -> list[int]:
    """By the middle one of an update's distances to the others: a minority cannot make that small by lying near each other."""
    count = len(distances)
    others = distances.clone().fill_diagonal_(-1).sort(1).values[:, 1:]
    middle = others[:, (count - 1) // 2]
    usual = middle.sort().values[(count - 1) // 2]
    return [index for index in range(count) if middle[index] > _OUTLYING * usual]


def mean(updates: Sequence[Mapping[str, torch.Tensor]]) -> State:
    """Every update counts the same."""
    return {name: torch.stack([update[name] for update in updates]).mean(0) for name in updates[0]}

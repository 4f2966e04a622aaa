"""Byzantine-tolerant averaging: Multi-Krum, or the coordinate-wise median of few updates.

Blanchard et al., "Machine Learning with Adversaries", NeurIPS 2017: f of n updates are malicious.
Multi-Krum averages the n - f - 2 updates that lie nearest to their neighbours. It needs
n >= 2f + 3. Here f is the largest that n allows, (n - 3) // 2: five updates tolerate one malicious
update, eight tolerate two. Fewer than five updates use the median (Yin et al., ICML 2018,
arXiv:1803.01498), which tolerates any minority. Every update counts the same, whatever number of
samples it claims.

An update outside the mean need not be malicious. So only outliers are named and rejected: updates
whose distance to the others is more than 1.5 times the usual one of the round. An update that
hides among the others, such as a copy of the base, is not found. It does little harm: it moves the
mean by its own share at most.
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
    """`rule` combines the updates at the indices `accepted`. `outliers` are rejected by name."""

    rule: CombineRule
    accepted: list[int]
    outliers: list[int]


def tolerated(updates: int) -> int:
    """Return f, how many malicious updates Multi-Krum tolerates; 0 if it cannot be used."""
    return (updates - 3) // 2 if updates >= _FEWEST else 0


def choose(updates: Sequence[Mapping[str, torch.Tensor]]) -> Choice:
    """Choose the updates to combine. Memory holds one tensor of every update at a time."""
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
    """Find outliers by the median of each update's distances to the others.

    A minority cannot make that median small by lying close together.
    """
    count = len(distances)
    others = distances.clone().fill_diagonal_(-1).sort(1).values[:, 1:]
    medians = others[:, (count - 1) // 2]
    usual = medians.sort().values[(count - 1) // 2]
    return [index for index in range(count) if medians[index] > _OUTLYING * usual]


def mean(updates: Sequence[Mapping[str, torch.Tensor]]) -> State:
    """Return the plain mean: every update counts the same."""
    return {name: torch.stack([update[name] for update in updates]).mean(0) for name in updates[0]}

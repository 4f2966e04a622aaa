"""Multi-Krum: the mean of the n - f - 2 updates with the best Krum scores.

Blanchard et al., "Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent", NeurIPS
2017. n - f - 2 is the largest number for which El Mhamdi et al. (ICML 2018, arXiv:1802.07927) prove
resilience.
"""

from collections.abc import Mapping, Sequence

import torch

from workers.agent.storage.tensors import State
from workers.agent.strategies.krum import ranked, squared_distances


def multi_krum(updates: Sequence[Mapping[str, torch.Tensor]], byzantine: int) -> State:
    """Return the unweighted mean of the chosen updates."""
    chosen = ranked(squared_distances(updates), byzantine)[: max(1, len(updates) - byzantine - 2)]
    return {name: torch.stack([updates[index][name] for index in chosen]).mean(0) for name in updates[0]}

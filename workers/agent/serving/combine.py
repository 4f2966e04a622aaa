"""The aggregations of several models' predictions: pure functions over tables of probabilities."""

from collections.abc import Sequence

import torch

_TIE = 1e-6


def mean(tables: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the mean of the probabilities. All tables have the shape (texts, classes)."""
    return torch.stack(list(tables)).mean(0)


def weighted(tables: Sequence[torch.Tensor], weights: Sequence[float]) -> torch.Tensor:
    """Return the mean of the probabilities, weighted by each model's held-out accuracy."""
    share = torch.tensor(weights, dtype=torch.float32)
    share = share / share.sum() if float(share.sum()) > 0 else torch.full_like(share, 1 / len(share))
    return (torch.stack(list(tables)) * share[:, None, None]).sum(0)


def majority(tables: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the share of votes for each label. Each model's best label is one vote.

    In a tie, the label with the higher mean probability wins. It gets an extra share that is too
    small to be visible. fp64 can represent it.
    """
    stacked = torch.stack(list(tables)).double()
    votes = torch.nn.functional.one_hot(stacked.argmax(2), stacked.shape[2]).double().mean(0)
    return (votes + _TIE * stacked.mean(0)) / (1 + _TIE)


def ensemble(tables: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the shares of votes, where each vote has the weight of its model's confidence.

    The shares sum to 1.
    """
    stacked = torch.stack(list(tables))
    confidence, label = stacked.max(2)
    votes = (torch.nn.functional.one_hot(label, stacked.shape[2]) * confidence[:, :, None]).sum(0)
    return votes / votes.sum(1, keepdim=True)

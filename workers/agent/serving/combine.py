"""How several models' opinions on a text become one: pure functions over tables of probabilities."""

from collections.abc import Sequence

import torch

_TIE = 1e-6


def mean(tables: Sequence[torch.Tensor]) -> torch.Tensor:
    """Mean of probabilities. Tables and result have the shape (texts, classes)."""
    return torch.stack(list(tables)).mean(0)


def weighted(tables: Sequence[torch.Tensor], weights: Sequence[float]) -> torch.Tensor:
    """Mean of probabilities, weighted by each model's held-out accuracy."""
    share = torch.tensor(weights, dtype=torch.float32)
    share = share / share.sum() if float(share.sum()) > 0 else torch.full_like(share, 1 / len(share))
    return (torch.stack(list(tables)) * share[:, None, None]).sum(0)


def majority(tables: Sequence[torch.Tensor]) -> torch.Tensor:
    """Each model's label is one vote; the share of votes. A tie goes to the higher mean probability, by a share too small
    to be seen (fp64, to hold it)."""
    stacked = torch.stack(list(tables)).double()
    votes = torch.nn.functional.one_hot(stacked.argmax(2), stacked.shape[2]).double().mean(0)
    return (votes + _TIE * stacked.mean(0)) / (1 + _TIE)


def ensemble(tables: Sequence[torch.Tensor]) -> torch.Tensor:
    """Majority vote in which each vote counts as much as its model is confident; normalised to sum to 1."""
    stacked = torch.stack(list(tables))
    confidence, label = stacked.max(2)
    votes = (torch.nn.functional.one_hot(label, stacked.shape[2]) * confidence[:, :, None]).sum(0)
    return votes / votes.sum(1, keepdim=True)

"""How an update changes a voter's predictions.

Tables of probabilities have the shape (texts, classes), targets (texts,).
"""

import torch

from workers.agent.protocol.consensus import UpdateEffect


def accuracy_of(table: torch.Tensor, targets: torch.Tensor) -> float:
    """Return the fraction of right predictions."""
    return float((table.argmax(1) == targets).float().mean())


def effect(base: torch.Tensor, candidate: torch.Tensor, targets: torch.Tensor) -> UpdateEffect:
    """Compare a candidate with the round's base, sample by sample."""
    gains = _losses(base, targets) - _losses(candidate, targets)
    error = float(gains.std(correction=1)) / len(gains) ** 0.5 if len(gains) > 1 else 0.0
    change = 0.5 * (candidate - base).abs().sum(1).mean()
    return UpdateEffect(change=float(change), gain=float(gains.mean()), error=error)


def _losses(table: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy of each sample, in nats."""
    return -table.gather(1, targets[:, None])[:, 0].clamp_min(1e-12).log()

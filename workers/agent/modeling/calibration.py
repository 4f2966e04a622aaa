"""Temperature scaling of confidences (Guo et al., ICML 2017, arXiv:1706.04599).

Calibrated probabilities are softmax(logits / T). T minimises the cross-entropy of held-out labels.
The predicted labels never change.
The held-out samples may be at several workers. Each worker sends its sums of cross-entropy at every
temperature of one grid. The sums of all workers together have one minimum.
"""

import math
from collections.abc import Sequence

import torch

from workers.agent.protocol.inference import CalibrationSums

_STEPS = 61
_WIDEST = math.log(10.0)
_LOGS = torch.linspace(-_WIDEST, _WIDEST, _STEPS, dtype=torch.float64)
# A smaller probability counts as this one, because the logarithm of 0 is infinite.
_LEAST = 1e-30


def calibration_sums(table: torch.Tensor, targets: torch.Tensor) -> CalibrationSums:
    """Return the sums of cross-entropy for each temperature, in nats.

    `table` holds probabilities (texts, classes), `targets` class indices (texts,).
    """
    logs = table.double().clamp_min(_LEAST).log()
    right, even = list[float](), list[float]()
    for log in _LOGS.tolist():
        scaled = torch.log_softmax(logs / math.exp(log), 1)
        right.append(-float(scaled.gather(1, targets[:, None]).sum()))
        even.append(-float(scaled.mean(1).sum()))
    return CalibrationSums(samples=len(table), right=right, even=even)


def is_valid(sums: CalibrationSums) -> bool:
    """Return whether a temperature can be fitted to the sums.

    The sums of a broken model are not valid. The sums of a worker may have any form.
    """
    values = (*sums.right, *sums.even)
    complete = len(sums.right) == len(sums.even) == _STEPS
    return sums.samples > 0 and complete and all(0 <= value < math.inf for value in values)


def fit(all_sums: Sequence[CalibrationSums], classes: int) -> float | None:
    """Return the temperature, 0.1..10; None when no sums are valid.

    With few samples, all predicted correctly, the best confidence would be infinite. So n samples
    count as certain only by (n + 1) / (n + classes). See Platt (1999, "Probabilistic outputs for
    support vector machines", section 2.2).
    """
    valid = [sums for sums in all_sums if is_valid(sums)]
    if not valid:
        return None
    doubt = classes / (sum(sums.samples for sums in valid) + classes)
    right = torch.tensor([sums.right for sums in valid], dtype=torch.float64).sum(0)
    even = torch.tensor([sums.even for sums in valid], dtype=torch.float64).sum(0)
    loss = (1 - doubt) * right + doubt * even
    lowest = int(loss.argmin())
    log = float(_LOGS[lowest])
    if 0 < lowest < _STEPS - 1:
        before, here, after = loss[lowest - 1 : lowest + 2].tolist()
        curvature = before - 2 * here + after
        # The vertex of the parabola through three neighbouring grid points.
        log += (before - after) / (2 * curvature) * float(_LOGS[1] - _LOGS[0]) if curvature > 0 else 0.0
    return math.exp(log)


def apply_temperature(table: torch.Tensor, temperature: float | None) -> torch.Tensor:
    """Return softmax(logits / T) for a table of softmax(logits), shape (texts, classes).

    It returns the table unchanged when the temperature is None.
    """
    if temperature is None:
        return table
    return torch.softmax(table.double().clamp_min(_LEAST).log() / temperature, 1)

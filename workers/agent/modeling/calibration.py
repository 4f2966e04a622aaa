"""How far a model's confidence is to be believed: one temperature (Guo et al., ICML 2017, arXiv:1706.04599).

softmax(logits / T) with the T that makes held-out labels least surprising. Labels never change. Held-out samples may lie with
several workers: each tells its sums of surprise at every temperature of one grid, and the sums of all have one minimum.
"""

import math
from collections.abc import Sequence

import torch

from workers.agent.protocol.inference import CalibrationSums

_STEPS = 61
_WIDEST = math.log(10.0)
_LOGS = torch.linspace(-_WIDEST, _WIDEST, _STEPS, dtype=torch.float64)
# Below it fp32 probabilities are zeros, whose logarithm nothing could be done with.
_LEAST = 1e-30


def calibration_sums(table: torch.Tensor, targets: torch.Tensor) -> CalibrationSums:
    """Surprise by temperature. `table` holds probabilities (texts, classes), `targets` class indices (texts,)."""
    logs = table.double().clamp_min(_LEAST).log()
    right, even = list[float](), list[float]()
    for log in _LOGS.tolist():
        said = torch.log_softmax(logs / math.exp(log), 1)
        right.append(-float(said.gather(1, targets[:, None]).sum()))
        even.append(-float(said.mean(1).sum()))
    return CalibrationSums(samples=len(table), right=right, even=even)


def is_valid(found: CalibrationSums) -> bool:
    """Whether a temperature can be fitted to it: a broken model's is not, and a worker's word is not taken for its form."""
    sums = (*found.right, *found.even)
    return found.samples > 0 and len(found.right) == len(found.even) == _STEPS and all(0 <= one < math.inf for one in sums)


def fit(curves: Sequence[CalibrationSums], classes: int) -> float | None:
    """The temperature, 0.1..10; None where no curve is sound.

    Few samples that a model gets right would ask for infinite confidence. As in Platt (1999, "Probabilistic outputs for
    support vector machines", section 2.2), n samples count as certain by (n + 1) / (n + classes) only.
    """
    sound = [one for one in curves if is_valid(one)]
    if not sound:
        return None
    doubt = classes / (sum(one.samples for one in sound) + classes)
    right = torch.tensor([one.right for one in sound], dtype=torch.float64).sum(0)
    even = torch.tensor([one.even for one in sound], dtype=torch.float64).sum(0)
    loss = (1 - doubt) * right + doubt * even
    lowest = int(loss.argmin())
    log = float(_LOGS[lowest])
    if 0 < lowest < _STEPS - 1:
        before, here, after = loss[lowest - 1 : lowest + 2].tolist()
        bend = before - 2 * here + after
        # The vertex of the parabola through three neighbours of the grid.
        log += (before - after) / (2 * bend) * float(_LOGS[1] - _LOGS[0]) if bend > 0 else 0.0
    return math.exp(log)


def apply_temperature(table: torch.Tensor, temperature: float | None) -> torch.Tensor:
    """softmax(logits / T) from softmax(logits), shape (texts, classes); as it is where T is None."""
    if temperature is None:
        return table
    return torch.softmax(table.double().clamp_min(_LEAST).log() / temperature, 1)

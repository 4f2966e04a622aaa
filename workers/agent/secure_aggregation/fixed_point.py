"""Updates as whole numbers modulo 2^32, so that masks hide them perfectly and vanish from their sum without a trace.

A worker's change of the model, times its share of all samples, in steps of 2^-27. The shares add up to 1 at most, so the sum
stays within the range that is kept for it: changes are clipped to LARGEST, 8 * 2^27 = 2^30. Rounding moves a mean by at most
n * 2^-28 for n workers, 4e-8 for ten.
"""

import numpy as np
import torch
from numpy.typing import NDArray

LARGEST = 8.0
STEPS_PER_ONE = 2**27
FixedPointVector = NDArray[np.uint32]


def encode(change: torch.Tensor, share: float) -> tuple[FixedPointVector, int]:
    """(numbers, how many values were clipped) of a flat fp32 change; ValueError where one is not finite."""
    values = change.to(torch.float64)
    if not bool(torch.isfinite(values).all()):
        raise ValueError("the change holds NaN or infinity")
    clipped = int((values.abs() > LARGEST).sum())
    whole = values.clamp_(-LARGEST, LARGEST).mul_(share * STEPS_PER_ONE).round_().to(torch.int64)
    return whole.numpy().astype(np.uint32), clipped


def decode(total: FixedPointVector) -> torch.Tensor:
    """The sum of shares, fp64: numbers above 2^31 are negative ones."""
    return torch.from_numpy(total.view(np.int32).astype(np.float64) / STEPS_PER_ONE)

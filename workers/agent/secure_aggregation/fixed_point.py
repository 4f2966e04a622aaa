"""Updates as integers modulo 2^32.

Masks in this ring hide an update completely, and they cancel exactly in the sum.
A value is the change of a parameter, times the worker's share of all samples, in steps of 2^-27.
Changes are clipped to `LARGEST`, which is 8 * 2^27 = 2^30 steps. The shares add up to 1 at most, so
the sum cannot overflow. Rounding moves a mean by at most n * 2^-28 for n workers: 4e-8 for ten.
"""

import numpy as np
import torch
from numpy.typing import NDArray

LARGEST = 8.0
STEPS_PER_ONE = 2**27
FixedPointVector = NDArray[np.uint32]


def encode(change: torch.Tensor, share: float) -> tuple[FixedPointVector, int]:
    """Return the fixed-point values of a flat fp32 change, and how many values were clipped.

    Raises:
        ValueError: when a value is not finite.
    """
    values = change.to(torch.float64)
    if not bool(torch.isfinite(values).all()):
        raise ValueError("the change holds NaN or infinity")
    clipped = int((values.abs() > LARGEST).sum())
    whole = values.clamp_(-LARGEST, LARGEST).mul_(share * STEPS_PER_ONE).round_().to(torch.int64)
    return whole.numpy().astype(np.uint32), clipped


def decode(total: FixedPointVector) -> torch.Tensor:
    """Return the sum as fp64. Integers from 2^31 on are negative values."""
    return torch.from_numpy(total.view(np.int32).astype(np.float64) / STEPS_PER_ONE)

"""Secret randomness for differential privacy: it samples records and generates noise.

The operating system gives the key. The training's seed is not used, because the whole cluster knows
it. The generator is Philox (Salmon et al., SC 2011) with a key of 128 bits from os.urandom.
Two limits of the guarantee: Philox is not a certified cryptographic generator, and floating-point
noise is not an ideal Gaussian (Mironov, CCS 2012).
"""

import os

import numpy as np
import torch
from numpy.typing import NDArray


class SecretRandom:
    """A generator with a secret key of its own."""

    def __init__(self) -> None:
        self._random = np.random.Generator(np.random.Philox(key=int.from_bytes(os.urandom(16), "big")))

    def sample(self, count: int, rate: float) -> NDArray[np.int64]:
        """Return indices below `count`. Each is included independently with probability `rate`."""
        return np.flatnonzero(self._random.random(count) < rate)

    def noise(self, like: torch.Tensor) -> torch.Tensor:
        """Return standard normal numbers: fp32, in the shape of `like`."""
        return torch.from_numpy(self._random.standard_normal(tuple(like.shape), np.float32))

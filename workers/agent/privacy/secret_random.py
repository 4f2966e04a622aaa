"""Randomness that nobody else knows: which records join a step, and the noise. Keyed by the operating system, never by the
training's seed, which the whole cluster knows.

The generator is Philox (Salmon et al., SC 2011) under a key of 128 bits from os.urandom. It is no certified cryptographic
generator, and floating-point noise is not the ideal Gaussian (Mironov, CCS 2012): the guarantee is up to both.
"""

import os

import numpy as np
import torch
from numpy.typing import NDArray


class SecretRandom:
    def __init__(self) -> None:
        self._random = np.random.Generator(np.random.Philox(key=int.from_bytes(os.urandom(16), "big")))

    def sample(self, count: int, rate: float) -> NDArray[np.int64]:
        """Indices below `count`, each there with probability `rate` whatever the others do; possibly none."""
        return np.flatnonzero(self._random.random(count) < rate)

    def noise(self, like: torch.Tensor) -> torch.Tensor:
        """Standard normal numbers, fp32, in the shape of `like`."""
        return torch.from_numpy(self._random.standard_normal(tuple(like.shape), np.float32))

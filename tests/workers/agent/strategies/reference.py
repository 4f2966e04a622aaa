"""The strategies again, from the formulas of the papers.

They use numpy and fp64 on flat vectors, shape (clients, parameters).
"""

from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]


def fedavg(updates: Vector, samples: Vector) -> Vector:
    result: Vector = np.einsum("np,n->p", updates, samples / samples.sum())
    return result


def fedavgm(base: Vector, means: list[Vector], rate: float, momentum: float) -> Vector:
    """Run several rounds. Each mean is given as the difference from that round's global model."""
    x, v = base.copy(), np.zeros_like(base)
    for displacement in means:
        v = momentum * v - displacement
        x = x - rate * v
    return x


def nesterov(base: Vector, means: list[Vector], rate: float, momentum: float) -> Vector:
    x, v = base.copy(), np.zeros_like(base)
    for displacement in means:
        v = momentum * v - displacement
        x = x - rate * (-displacement + momentum * v)
    return x


class AdaptiveSettings(NamedTuple):
    rate: float
    beta_1: float
    beta_2: float
    tau: float


def adaptive(method: str, base: Vector, means: list[Vector], settings: AdaptiveSettings) -> Vector:
    rate, b1, b2, tau = settings
    x, m, v = base.copy(), np.zeros_like(base), np.full_like(base, tau * tau)
    for displacement in means:
        m = b1 * m + (1 - b1) * displacement
        if method == "fedadagrad":
            v = v + displacement**2
        elif method == "fedyogi":
            v = v - (1 - b2) * displacement**2 * np.sign(v - displacement**2)
        else:
            v = b2 * v + (1 - b2) * displacement**2
        x = x + rate * m / (np.sqrt(v) + tau)
    return x


def median(updates: Vector) -> Vector:
    result: Vector = np.median(updates, axis=0)
    return result


def trimmed_mean(updates: Vector, fraction: float) -> Vector:
    result = np.empty(updates.shape[1])
    for column in range(updates.shape[1]):
        values = sorted(updates[:, column])
        cut = int(np.floor(fraction * len(values)))
        result[column] = np.mean(values[cut : len(values) - cut])
    return result


def krum_order(updates: Vector, f: int) -> list[int]:
    """Compute the score by its definition.

    It is the smallest sum of squared distances to any set of n - f - 2 other updates.
    """
    n = len(updates)
    scores: list[Any] = []
    for i in range(n):
        away = [float(np.linalg.norm(updates[i] - updates[j]) ** 2) for j in range(n) if j != i]
        scores.append((min(sum(some) for some in combinations(away, max(1, n - f - 2))), i))
    return [i for _, i in sorted(scores)]


def multi_krum(updates: Vector, f: int) -> Vector:
    chosen = krum_order(updates, f)[: len(updates) - f - 2]
    result: Vector = updates[chosen].mean(axis=0)
    return result


def bulyan(updates: Vector, f: int) -> Vector:
    pool, chosen = list(range(len(updates))), list[int]()
    while len(chosen) < len(updates) - 2 * f:
        winner = pool[krum_order(updates[pool], f)[0]]
        pool.remove(winner)
        chosen.append(winner)
    keep = len(chosen) - 2 * f
    result = np.empty(updates.shape[1])
    for column in range(updates.shape[1]):
        values = updates[chosen, column]
        middle = np.median(values)
        result[column] = np.mean(sorted(values, key=lambda value: abs(value - middle))[:keep])
    return result

"""The strategies once more, in numpy and fp64, written from the papers' formulas over flat vectors (clients x parameters)."""

from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]


def fedavg(updates: Vector, samples: Vector) -> Vector:
    result: Vector = np.einsum("np,n->p", updates, samples / samples.sum())
    return result


def fedavgm(base: Vector, means: list[Vector], rate: float, momentum: float) -> Vector:
    """Several rounds; each mean is given as a displacement from that round's global model."""
    x, v = base.copy(), np.zeros_like(base)
    for moved in means:
        v = momentum * v - moved
        x = x - rate * v
    return x


def nesterov(base: Vector, means: list[Vector], rate: float, momentum: float) -> Vector:
    x, v = base.copy(), np.zeros_like(base)
    for moved in means:
        v = momentum * v - moved
        x = x - rate * (-moved + momentum * v)
    return x


def adaptive(kind: str, base: Vector, means: list[Vector], rate: float, b1: float, b2: float, tau: float) -> Vector:
    x, m, v = base.copy(), np.zeros_like(base), np.full_like(base, tau * tau)
    for moved in means:
        m = b1 * m + (1 - b1) * moved
        if kind == "fedadagrad":
            v = v + moved**2
        elif kind == "fedyogi":
            v = v - (1 - b2) * moved**2 * np.sign(v - moved**2)
        else:
            v = b2 * v + (1 - b2) * moved**2
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
    """By the definition: of all sets of n - f - 2 others, the one with the smallest sum of squared distances is the score."""
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

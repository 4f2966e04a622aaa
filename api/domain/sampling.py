"""Which of a training's workers take part in a round."""

import random
from collections.abc import Sequence
from math import ceil


def count(workers: int, fraction: float, min_workers: int) -> int:
    """How many of `workers` are drawn: the fraction, rounded up, but no fewer than `min_workers`."""
    # A product like 0.1 * 30 lies a hair above 3.
    return min(workers, max(1, min_workers, ceil(fraction * workers - 1e-9)))


def draw(workers: Sequence[str], wanted: int, seed: int, number: int) -> list[str]:
    """Up to `wanted` workers for round `number`, in the order given. The same seed draws the same workers."""
    drawn = random.Random(f"{seed}/{number}").sample(sorted(workers), min(wanted, len(workers)))  # noqa: S311
    return [node_id for node_id in workers if node_id in drawn]

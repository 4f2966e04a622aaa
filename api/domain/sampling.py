"""Choose the workers of a round."""

import random
from collections.abc import Sequence
from math import ceil


def count(workers: int, fraction: float, min_workers: int) -> int:
    """Return how many workers are drawn: the fraction, rounded up, but at least `min_workers`."""
    # A product like 0.1 * 30 is slightly more than 3.
    return min(workers, max(1, min_workers, ceil(fraction * workers - 1e-9)))


def draw(workers: Sequence[str], size: int, seed: int, number: int) -> list[str]:
    """Draw up to `size` workers for round `number`, in the order of `workers`.

    The same seed draws the same workers.
    """
    drawn = random.Random(f"{seed}/{number}").sample(sorted(workers), min(size, len(workers)))  # noqa: S311
    return [node_id for node_id in workers if node_id in drawn]

"""Random choices that give the same sequence on every platform and Python version.

Python guarantees this only for `Random.random()`.
Its `choice` and `shuffle` have changed between versions, so this module does not use them.
"""

import random
from collections.abc import Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")


class SeededRandom:
    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - repeatable text, not a secret

    def below(self, limit: int) -> int:
        return int(self._random.random() * limit)

    def chance(self, probability: float) -> bool:
        return self._random.random() < probability

    def pick(self, options: Sequence[T]) -> T:
        return options[self.below(len(options))]

    def weighted(self, weights: Mapping[T, float]) -> T:
        """Return one key, with a probability in proportion to its weight."""
        left = self._random.random() * sum(weights.values())
        for option, weight in weights.items():
            left -= weight
            if left < 0:
                return option
        return option

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """Return a copy in random order (Fisher-Yates)."""
        result = list(items)
        for last in range(len(result) - 1, 0, -1):
            other = self.below(last + 1)
            result[last], result[other] = result[other], result[last]
        return result

"""A labelled set, split into training and test texts."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

Sample = tuple[str, str]
"""Text and label."""


@dataclass(frozen=True, slots=True)
class LabelledSet:
    name: str
    training: list[Sample]
    test: list[Sample]

    @property
    def labels(self) -> list[str]:
        return sorted({label for _, label in self.training})


def split(name: str, samples: Sequence[Sample], training: int, test: int) -> LabelledSet:
    """Return a shuffled part of the samples. The same samples give the same split."""
    shuffled = sorted(set(samples))
    random.Random(0).shuffle(shuffled)
    return LabelledSet(name, shuffled[test : test + training], shuffled[:test])

"""Split samples into shards: alike, skewed by label, or by the values of a column."""

import random
from collections.abc import Sequence

from api.cli.datasets.check import FileSample
from api.cli.errors import UsageError

Shards = list[list[FileSample]]


def hold_out(samples: Sequence[FileSample], share: float, seed: int) -> tuple[list[FileSample], list[FileSample]]:
    """Return the samples without a test set, and the test set: the same share of each label."""
    generator = random.Random(seed)  # noqa: S311 - not for secrets
    rest: list[FileSample] = []
    test: list[FileSample] = []
    for group in _by_label(samples, generator):
        count = round(len(group) * share)
        test += group[:count]
        rest += group[count:]
    return rest, test


def stratified(samples: Sequence[FileSample], shards: int, seed: int) -> Shards:
    """Deal the samples of each label in turn. So all shards have the labels in the same shares."""
    generator = random.Random(seed)  # noqa: S311 - not for secrets
    dealt = [sample for group in _by_label(samples, generator) for sample in group]
    return _shuffled([dealt[number::shards] for number in range(shards)], generator)


def skewed(samples: Sequence[FileSample], shards: int, alpha: float, seed: int) -> Shards:
    """Give each shard a share of each label, drawn from a Dirichlet distribution.

    A smaller `alpha` means more skew (Hsu et al., 2019, arXiv:1909.06335). No shard is empty.
    """
    generator = random.Random(seed)  # noqa: S311 - not for secrets
    result: Shards = [[] for _ in range(shards)]
    for group in _by_label(samples, generator):
        # Tiny gamma variates can be 0: the floor keeps the weights usable.
        weights = [generator.gammavariate(alpha, 1) + 1e-12 for _ in range(shards)]
        for number, sample in zip(generator.choices(range(shards), weights, k=len(group)), group, strict=True):
            result[number].append(sample)
    for shard in result:
        if not shard:
            shard.append(max(result, key=len).pop())
    return _shuffled(result, generator)


def by_column(samples: Sequence[FileSample], column: str) -> Shards:
    """Return one shard for each value of a column, in the order of these values.

    Raises:
        UsageError: A row has no value there, or all rows have the same.
    """
    groups: dict[str, list[FileSample]] = {}
    for sample in samples:
        value = sample.row.fields.get(column)
        if value is None or isinstance(value, list | dict):
            raise UsageError(f"{sample.row.place} has no single value in {column!r}")
        groups.setdefault(str(value), []).append(sample)
    if len(groups) < 2:
        raise UsageError(f"all rows have the same value in {column!r}; there is nothing to split by")
    return [groups[value] for value in sorted(groups)]


def _by_label(samples: Sequence[FileSample], generator: random.Random) -> Shards:
    groups: dict[str, list[FileSample]] = {}
    for sample in samples:
        groups.setdefault(sample.label, []).append(sample)
    return _shuffled([groups[label] for label in sorted(groups)], generator)


def _shuffled(groups: Shards, generator: random.Random) -> Shards:
    for group in groups:
        generator.shuffle(group)
    return groups

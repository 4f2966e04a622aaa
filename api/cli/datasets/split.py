"""Split samples into shards: alike, skewed by label, or by the values of a column."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from api.cli.datasets.check import FileSample
from api.cli.errors import UsageError

Shards = list[list[FileSample]]
_MOST_SITES = 1000


@dataclass(frozen=True, slots=True)
class SplitOptions:
    """How samples are split. Give `shards`, with `skew` or without, or `site_column`.

    `test` is the share of each label that goes to the test set, 0..1. No shard has fewer than
    `fewest` samples.
    """

    shards: int | None = None
    skew: float | None = None
    site_column: str | None = None
    test: float = 0.0
    seed: int = 0
    fewest: int = 1


def split(samples: Sequence[FileSample], options: SplitOptions) -> tuple[Shards, list[FileSample]]:
    """Return the shards and the test set.

    Raises:
        UsageError: The options exclude each other, or there are too few samples.
    """
    if (options.site_column is None) == (options.shards is None) or (options.site_column and options.skew is not None):
        raise UsageError("give a number of files, with --skew if you like, or --site-column COLUMN")
    rest, test = hold_out(samples, options.test, options.seed)
    shards = options.shards or 1
    if len(rest) < shards * options.fewest:
        wanted = f"at least {options.fewest} for each of {shards}" if options.fewest > 1 else f"1 for each of {shards}"
        apart = f" without the {len(test)} of the test set" if test else ""
        raise UsageError(f"there are {len(rest)} samples{apart}; {wanted} files are needed")
    if options.site_column is not None:
        return by_column(rest, options.site_column, options.fewest), test
    if options.skew is not None:
        return skewed(rest, shards, options.skew, options.seed, options.fewest), test
    return stratified(rest, shards, options.seed), test


def hold_out(samples: Sequence[FileSample], share: float, seed: int) -> tuple[list[FileSample], list[FileSample]]:
    """Return the samples without a test set, and the test set: the same share of each label.

    A text that is there twice is in one of them only.
    """
    generator = random.Random(seed)  # noqa: S311 - not for secrets
    rest: list[FileSample] = []
    test: list[FileSample] = []
    for group in _by_label(samples, generator):
        count = round(len(group) * share)
        test += group[:count]
        rest += group[count:]
    texts = {sample.text for sample in test}
    return [sample for sample in rest if sample.text not in texts], test + [sample for sample in rest if sample.text in texts]


def stratified(samples: Sequence[FileSample], shards: int, seed: int) -> Shards:
    """Deal the samples of each label in turn. So all shards have the labels in the same shares."""
    generator = random.Random(seed)  # noqa: S311 - not for secrets
    dealt = [sample for group in _by_label(samples, generator) for sample in group]
    return _shuffled([dealt[number::shards] for number in range(shards)], generator)


def skewed(samples: Sequence[FileSample], shards: int, alpha: float, seed: int, fewest: int = 1) -> Shards:
    """Give each shard a share of each label, drawn from a Dirichlet distribution.

    A smaller `alpha` means more skew (Hsu et al., 2019, arXiv:1909.06335). A shard with fewer than
    `fewest` samples gets some of the largest one.
    """
    generator = random.Random(seed)  # noqa: S311 - not for secrets
    result: Shards = [[] for _ in range(shards)]
    for group in _by_label(samples, generator):
        # Tiny gamma variates can be 0: the floor keeps the weights usable.
        weights = [generator.gammavariate(alpha, 1) + 1e-12 for _ in range(shards)]
        for number, sample in zip(generator.choices(range(shards), weights, k=len(group)), group, strict=True):
            result[number].append(sample)
    for shard in result:
        while len(shard) < fewest:
            shard.append(max(result, key=len).pop())
    return _shuffled(result, generator)


def by_column(samples: Sequence[FileSample], column: str, fewest: int = 1) -> Shards:
    """Return one shard for each value of a column, in the order of these values.

    Raises:
        UsageError: There is no such column, or a row has no value there. All rows have the same
            value, or a site has fewer than `fewest` samples.
    """
    names = list(dict.fromkeys(name for sample in samples for name in sample.row.fields))
    if column not in names:
        raise UsageError(f"there is no column {column!r}; the columns are {', '.join(names)}")
    groups: dict[str, list[FileSample]] = {}
    for sample in samples:
        value = sample.row.fields.get(column)
        if value is None or isinstance(value, list | dict):
            raise UsageError(f"{sample.row.place} has no single value in {column!r}")
        groups.setdefault(str(value), []).append(sample)
    if len(groups) < 2:
        raise UsageError(f"all rows have the same value in {column!r}; there is nothing to split by")
    if len(groups) > _MOST_SITES:
        raise UsageError(f"{column!r} has {len(groups)} values; a split has at most {_MOST_SITES} sites")
    for number, value in enumerate(sorted(groups), 1):
        if len(groups[value]) < fewest:
            raise UsageError(f"site {number} of {column!r} has {len(groups[value])} samples; {fewest} are needed")
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

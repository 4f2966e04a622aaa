"""The split of a shard: stratified, independent of file order, and the same in any memory."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.workers.agent.datasets.reference_split import split
from workers.agent.datasets.hold_out import digest, held_out
from workers.agent.datasets.shards import TextSamples

Pairs = list[tuple[str, str]]

# Texts with duplicates. The labels do not follow from the text.
shards = st.lists(
    st.tuples(st.integers(0, 40).map("text {}".format), st.sampled_from(["good", "bad", "so-so"])), min_size=1, max_size=80
)


def chosen(pairs: Pairs, at_once: int = 2**20) -> list[bool]:
    digests = np.frombuffer(b"".join(digest(text) for text, _ in pairs), ">u8").astype(np.uint64).reshape(-1, 2)
    names = sorted({label for _, label in pairs})
    ranks = np.array([names.index(label) for _, label in pairs], np.int64)
    found: list[bool] = held_out(digests, ranks, at_once).tolist()
    return found


def parts(pairs: Pairs, at_once: int = 2**20) -> tuple[Pairs, Pairs]:
    """Return training and held-out samples."""
    marks = chosen(pairs, at_once)
    sides = [[pair for pair, mark in zip(pairs, marks, strict=True) if mark is side] for side in (False, True)]
    return sides[0], sides[1]


@pytest.mark.parametrize("at_once", [2**20, 20, 3])
@given(pairs=shards)
def test_it_is_the_split_of_the_reference(at_once: int, pairs: Pairs) -> None:
    samples = TextSamples([text for text, _ in pairs], [label for _, label in pairs], 1)
    for found, wanted in zip(parts(pairs, at_once), split(samples), strict=True):
        assert found == list(zip(wanted.texts, wanted.labels, strict=True))


@given(shards, st.randoms())
def test_it_does_not_depend_on_the_order_of_files(pairs: Pairs, random: object) -> None:
    other = list(pairs)
    random.shuffle(other)  # type: ignore[attr-defined]
    for one, another in zip(parts(pairs), parts(other), strict=True):
        assert Counter(one) == Counter(another)


@given(shards)
def test_it_keeps_every_sample_once_and_equal_texts_together(pairs: Pairs) -> None:
    training, held = parts(pairs)
    assert Counter(training) + Counter(held) == Counter(pairs)
    assert not {text for text, _ in training} & {text for text, _ in held}
    if len({text for text, _ in pairs}) > 1:
        assert training
        assert held


def test_it_is_stratified() -> None:
    pairs = [(f"text {number}", "rare" if number < 100 else "common") for number in range(1000)]
    training, held = parts(pairs)
    assert (len(training), len(held)) == (900, 100)
    assert Counter(label for _, label in held) == {"rare": 10, "common": 90}

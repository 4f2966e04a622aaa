import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.agent.datasets.batches import EncodedTexts, by_length, shuffled

TEXTS = [[2, 7, 3], [2, 3], [2, 8, 9, 10, 3], [2, 4, 3]]

lengths = st.lists(st.integers(1, 60), min_size=1, max_size=300).map(lambda lengths: np.asarray(lengths, np.int64))
sizes = st.integers(1, 40)


def flat(batches: object) -> list[int]:
    return [int(index) for batch in batches for index in batch]  # type: ignore[attr-defined]


@given(lengths, sizes, st.tuples(st.integers(0, 2**31 - 1), st.integers(1, 500), st.integers(0, 50)))
def test_an_epoch_holds_every_index_once_and_a_seed_repeats_it(
    lengths: np.ndarray,
    size: int,
    seed: tuple[int, int, int],
) -> None:
    batches = shuffled(lengths, size, seed)
    assert sorted(flat(batches)) == list(range(len(lengths)))
    assert all(1 <= len(batch) <= size for batch in batches)
    assert flat(batches) == flat(shuffled(lengths, size, seed))


def test_each_epoch_and_each_round_has_an_order_of_its_own() -> None:
    lengths = np.ones(200, np.int64)
    orders = {tuple(flat(shuffled(lengths, 8, seed))) for seed in ((0, 1, 0), (0, 1, 1), (0, 2, 0), (1, 1, 0))}
    assert len(orders) == 4


def test_texts_of_like_length_share_a_batch() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 512)
    waste = sum(int(lengths[batch].max() * len(batch) - lengths[batch].sum()) for batch in shuffled(lengths, 16, (1,)))
    at_random = sum(int(lengths[i : i + 16].max() * 16 - lengths[i : i + 16].sum()) for i in range(0, 512, 16))
    assert waste < at_random / 3


@given(lengths, sizes)
def test_inference_takes_every_index_once_shortest_first(lengths: np.ndarray, size: int) -> None:
    order = flat(by_length(lengths, size))
    assert sorted(order) == list(range(len(lengths)))
    assert list(lengths[order]) == sorted(lengths)


def test_a_batch_is_padded_to_its_longest_text_and_masked() -> None:
    ids, mask = EncodedTexts.of(TEXTS, [0, 1, 0, 1], pad_id=99).batch(np.asarray([1, 0]))
    assert ids.tolist() == [[2, 3, 99], [2, 7, 3]]
    assert mask.tolist() == [[1, 1, 0], [1, 1, 1]]
    assert str(ids.dtype) == str(mask.dtype) == "torch.int64"


def test_targets_follow_their_texts() -> None:
    data = EncodedTexts.of(TEXTS, [0, 1, 0, 1], pad_id=0)
    assert data.targets(np.asarray([3, 2])).tolist() == [1, 0]
    with pytest.raises(ValueError, match="no labels"):
        EncodedTexts.of(TEXTS, None, 0).targets(np.asarray([0]))


def test_a_part_is_texts_with_their_labels() -> None:
    part = EncodedTexts.of(TEXTS, [0, 1, 2, 3], pad_id=0).select(np.asarray([2, 0]))
    assert part.lengths.tolist() == [5, 3]
    assert part.targets(np.arange(2)).tolist() == [2, 0]
    assert part.batch(np.asarray([1]))[0].tolist() == [[2, 7, 3]]
    assert (len(part.first(1)), len(part.first(9))) == (1, 2)

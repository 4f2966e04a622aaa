import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from workers.agent.serving import combine

# Three models on two texts of two classes.
TABLES = [
    torch.tensor([[0.9, 0.1], [0.4, 0.6]]),
    torch.tensor([[0.4, 0.6], [0.3, 0.7]]),
    torch.tensor([[0.4, 0.6], [0.8, 0.2]]),
]


def close(result: torch.Tensor, expected: list[list[float]]) -> None:
    assert result.tolist() == [pytest.approx(row, abs=1e-5) for row in expected]


def test_mean_by_hand() -> None:
    close(combine.mean(TABLES), [[1.7 / 3, 1.3 / 3], [0.5, 0.5]])


def test_weighted_by_hand() -> None:
    close(combine.weighted(TABLES, [0.5, 0.25, 0.25]), [[0.65, 0.35], [0.475, 0.525]])
    close(combine.weighted(TABLES, [1.0, 0.5, 0.5]), [[0.65, 0.35], [0.475, 0.525]])


def test_models_that_got_nothing_right_weigh_the_same() -> None:
    close(combine.weighted(TABLES, [0.0, 0.0, 0.0]), combine.mean(TABLES).tolist())


def test_majority_counts_labels_and_its_confidence_is_the_share_of_votes() -> None:
    close(combine.majority(TABLES), [[1 / 3, 2 / 3], [1 / 3, 2 / 3]])


@pytest.mark.parametrize(("first", "label"), [(0.7, 0), (0.55, 1), (0.6000002, 0), (0.5999998, 1)])
def test_a_tie_goes_to_the_higher_mean_probability(first: float, label: int) -> None:
    tied = combine.majority([torch.tensor([[first, 1 - first]]), torch.tensor([[0.4, 0.6]])])
    assert int(tied.argmax(1)) == label
    close(tied, [[0.5, 0.5]])


def test_ensemble_weighs_votes_by_confidence() -> None:
    close(combine.ensemble(TABLES), [[0.9 / 2.1, 1.2 / 2.1], [0.8 / 2.1, 1.3 / 2.1]])


probability_tables = st.integers(2, 4).flatmap(
    lambda classes: st.lists(
        st.lists(st.lists(st.floats(0.01, 1), min_size=classes, max_size=classes), min_size=3, max_size=3),
        min_size=1,
        max_size=5,
    )
)


@given(probability_tables, st.randoms())
def test_no_order_of_models_changes_the_answer_and_rows_sum_to_one(rows: list[list[list[float]]], random: object) -> None:
    tables = [torch.tensor(table) / torch.tensor(table).sum(1, keepdim=True) for table in rows]
    shuffled = list(tables)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    for way in (combine.mean, combine.majority, combine.ensemble):
        result = way(tables)
        torch.testing.assert_close(way(shuffled), result, atol=1e-5, rtol=0)
        torch.testing.assert_close(result.sum(1), torch.ones(3, dtype=result.dtype), atol=1e-5, rtol=0)

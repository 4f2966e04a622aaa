"""The median stopping rule and the best of the trainings, against hand-computed values."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.domain.early_stopping import MetricCurve, best, early_stop_reason, last_value

ACCURACY, LOSS = "validation_accuracy", "global_loss"
# Averages until epoch 2: 0.6, 0.7 and 0.8; until epoch 3: 0.7, 0.8 and 0.8.
OTHERS: list[MetricCurve] = [
    [(1, 0.5), (2, 0.7), (3, 0.9)],
    [(1, 0.6), (2, 0.8), (3, 1.0)],
    [(1, 0.8), (2, 0.8), (3, 0.8)],
]


def stopped(metric: str, curve: MetricCurve, others: list[MetricCurve] = OTHERS, epochs: int = 1, trainings: int = 3) -> bool:
    return early_stop_reason(metric, curve, others, grace_epochs=epochs, grace_trainings=trainings) is not None


def test_a_training_below_the_median_of_the_averages_stops() -> None:
    assert stopped(ACCURACY, [(1, 0.5), (2, 0.69)])
    assert not stopped(ACCURACY, [(1, 0.5), (2, 0.7)]), "as good as the median is good enough"
    assert not stopped(ACCURACY, [(1, 0.71), (2, 0.1)]), "its best value counts, not its last"


def test_of_a_loss_less_is_better() -> None:
    assert stopped(LOSS, [(1, 0.9), (2, 0.71)])
    assert not stopped(LOSS, [(1, 0.9), (2, 0.7)])


def test_the_reason_has_the_figures() -> None:
    why = early_stop_reason(ACCURACY, [(1, 0.5), (2, 0.6)], OTHERS, grace_epochs=1, grace_trainings=3)
    assert why is not None
    assert why.code == "early_stopped"
    assert why.detail == (
        "Its best validation_accuracy until epoch 2 is 0.6; the median of 3 earlier trainings' averages until then is 0.7."
    )


def test_nothing_is_stopped_within_its_grace() -> None:
    assert not stopped(ACCURACY, [(1, 0.1), (2, 0.1)], epochs=3)
    assert not stopped(ACCURACY, [(1, 0.1), (2, 0.1)], trainings=4)


def test_only_trainings_that_came_as_far_are_compared_with() -> None:
    shorter: list[MetricCurve] = [*OTHERS[:2], [(1, 0.8)]]
    assert not stopped(ACCURACY, [(1, 0.1), (2, 0.1)], shorter)
    assert stopped(ACCURACY, [(1, 0.1)], shorter)


def test_rounds_of_several_epochs_compare_by_the_epochs() -> None:
    wide: list[MetricCurve] = [[(2, 0.6), (4, 0.9)]] * 3
    assert stopped(ACCURACY, [(1, 0.1), (2, 0.59)], wide)
    assert not stopped(ACCURACY, [(1, 0.1)], wide), "nothing of theirs was measured by epoch 1"


def test_what_was_not_measured_counts_for_nothing() -> None:
    assert not stopped(ACCURACY, [(1, None), (2, None)])
    assert not stopped(ACCURACY, [])
    assert stopped(ACCURACY, [(1, None), (2, 0.6)])
    assert not stopped(ACCURACY, [(1, 0.1)], [[(1, None)], *OTHERS[:2]])
    assert not stopped(LOSS, [(1, math.nan)], [[(1, 0.1)]] * 3)


@pytest.mark.parametrize(
    ("metric", "values", "position"),
    [
        (ACCURACY, [0.5, 0.9, 0.9, None], 1),
        (LOSS, [None, 0.5, 0.4, 0.4], 2),
        (ACCURACY, [None, None], None),
        (LOSS, [], None),
    ],
)
def test_the_best_is_the_first_of_equals(metric: str, values: list[float | None], position: int | None) -> None:
    assert best(metric, values) == position


@given(st.lists(st.one_of(st.none(), st.floats(0, 1)), min_size=1))
def test_nothing_is_better_than_the_best(values: list[float | None]) -> None:
    known = [value for value in values if value is not None]
    for metric, ideal in ((ACCURACY, max), (LOSS, min)):
        found = best(metric, values)
        assert (None if found is None else values[found]) == (ideal(known) if known else None)


def test_a_trainings_metric_is_that_of_its_last_round() -> None:
    assert last_value([(1, 0.9), (2, 0.8)]) == 0.8
    assert last_value([(1, 0.9), (2, None)]) is None
    assert last_value([(1, math.inf)]) is None
    assert last_value([]) is None

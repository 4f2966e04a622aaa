"""The combinations of a search space: a whole grid, and draws that a seed repeats."""

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.domain.errors import FieldError, InvalidError
from api.domain.searches import Range, Space, draw, error_of_space, grid, size

SPACE: Space = {"learning_rate": [0.1, 0.01], "optimizer": ["adam", "sgd", "adamw"]}
RATES = Range(1e-5, 1e-1, "log", integers_only=False)


def test_a_grid_is_every_combination_and_the_last_option_changes_fastest() -> None:
    assert grid(SPACE) == [
        {"learning_rate": 0.1, "optimizer": "adam"},
        {"learning_rate": 0.1, "optimizer": "sgd"},
        {"learning_rate": 0.1, "optimizer": "adamw"},
        {"learning_rate": 0.01, "optimizer": "adam"},
        {"learning_rate": 0.01, "optimizer": "sgd"},
        {"learning_rate": 0.01, "optimizer": "adamw"},
    ]
    assert size(SPACE) == 6
    assert size({**SPACE, "weight_decay": RATES}) is None


def test_a_small_space_is_drawn_whole() -> None:
    assert draw(SPACE, 6, seed=1) == draw(SPACE, 100, seed=2) == grid(SPACE)


@given(st.integers(1, 5), st.integers(0, 2**31 - 1))
def test_draws_differ_and_the_seed_repeats_them(count: int, seed: int) -> None:
    found = draw(SPACE, count, seed)
    assert found == draw(SPACE, count, seed)
    assert len(found) == count
    assert all(options in grid(SPACE) and found.count(options) == 1 for options in found)


def test_another_seed_draws_others() -> None:
    space: Space = {"learning_rate": RATES}
    assert draw(space, 5, seed=1) != draw(space, 5, seed=2)


@given(st.floats(1e-6, 1.0), st.floats(1e-6, 1.0), st.sampled_from(["linear", "log"]), st.integers(0, 1000))
def test_numbers_lie_within_their_range(one: float, other: float, scale: str, seed: int) -> None:
    low, high = sorted((one, other))
    for options in draw({"x": Range(low, high, scale, integers_only=False)}, 5, seed):  # type: ignore[arg-type]
        assert low <= options["x"] <= high  # type: ignore[operator]


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_whole_numbers_are_whole_and_reach_both_ends(scale: str) -> None:
    drawn = [options["x"] for options in draw({"x": Range(2, 5, scale, integers_only=True)}, 4, 0)]  # type: ignore[arg-type]
    assert sorted(drawn) == [2, 3, 4, 5]  # type: ignore[type-var]
    assert all(type(value) is int for value in drawn)


def test_a_log_scale_draws_each_power_of_ten_alike() -> None:
    found = draw({"x": RATES}, 400, seed=3)
    decades = Counter(math.floor(math.log10(options["x"])) for options in found)  # type: ignore[arg-type]
    assert set(decades) <= {-5, -4, -3, -2, -1}
    assert all(60 <= decades[power] <= 140 for power in (-5, -4, -3, -2))


def test_a_range_that_holds_too_few_numbers_gives_those_it_has() -> None:
    assert len(draw({"x": Range(1, 3, "linear", integers_only=True)}, 10, 0)) == 3


def test_a_mistake_of_a_combination_points_into_the_space() -> None:
    wrong = InvalidError("code", "m", errors=(FieldError("/strategy", "too few"), FieldError("/min_workers", "too many")))
    found = error_of_space(wrong, {"strategy": "krum"})
    assert [field.pointer for field in found.errors] == ["/space/strategy", "/min_workers"]
    assert found.errors[0].message == "too few (with strategy 'krum')"
    assert (found.code, found.detail) == ("code", found.errors[0].message)

import re
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from api.domain.errors import InvalidError
from api.domain.progress import (
    compression_ratio,
    duration_text,
    epoch,
    learning_rate,
    remaining_seconds,
    total_rounds,
    weighted_mean,
)
from api.domain.training_progress import TrainingProgress
from api.domain.training_spec import TrainingSpec


def convergence_rate(losses: list[float]) -> float | None:
    """Return the rate after completed rounds with these losses."""
    return after_rounds([(loss, 1.0) for loss in losses]).convergence_rate


def after_rounds(rounds: list[tuple[float | None, float | None]]) -> TrainingProgress:
    """Return the figures after completed rounds with these losses and seconds."""
    figures = TrainingProgress()
    for loss, seconds in rounds:
        figures = figures.after(global_loss=loss, global_accuracy=None, validation_accuracy=None, seconds=seconds)
    return figures


def test_the_metrics_are_those_of_the_last_round() -> None:
    figures = TrainingProgress().after(global_loss=0.5, global_accuracy=0.6, validation_accuracy=0.7, seconds=2)
    assert (figures.global_loss, figures.global_accuracy, figures.validation_accuracy) == (0.5, 0.6, 0.7)
    figures = figures.after(global_loss=None, global_accuracy=None, validation_accuracy=0.8, seconds=None)
    assert (figures.global_loss, figures.global_accuracy, figures.validation_accuracy) == (None, None, 0.8)
    assert (figures.last_loss, figures.recent_seconds) == (0.5, (2,))


def test_a_round_without_a_loss_does_not_count_for_the_convergence() -> None:
    assert after_rounds([(1.0, 1), (None, 1), (0.5, 1), (float("nan"), 1), (0.25, 1)]).convergence_rate == 0.5


def test_the_figures_do_not_grow_with_the_rounds() -> None:
    short, long = after_rounds([(1.0, 1.0)] * 10), after_rounds([(1.0, 1.0)] * 1000)
    assert len(short.model_dump_json()) + 10 >= len(long.model_dump_json())
    assert long.recent_seconds == (1.0,) * 5


@given(st.integers(1, 500), st.integers(1, 50))
def test_rounds_train_exactly_the_epochs_asked_for(total: int, local: int) -> None:
    rounds = total_rounds(total, local)
    spec = TrainingSpec(dataset="/data/x.json", epochs=total, local_epochs=local)
    trained = [spec.epochs_of_round(number) for number in range(1, rounds + 1)]
    assert sum(trained) == total
    assert min(trained) >= 1
    assert epoch(rounds, total, local) == total


@given(st.integers(1, 30), st.integers(1, 8), st.lists(st.tuples(st.integers(0, 30), st.integers(1, 20)), max_size=4))
def test_extensions_train_the_epochs_asked_for_and_change_no_earlier_round(
    total: int, local: int, extensions: list[tuple[int, int]]
) -> None:
    """Each extension comes after some of the rounds, as when a rule ended the training early."""
    spec = TrainingSpec(dataset="/data/x.json", epochs=total, local_epochs=local)
    done: list[int] = []
    for rounds, more in extensions:
        completed = min(max(rounds, len(done)), spec.total_rounds)
        done = [spec.epochs_of_round(number) for number in range(1, completed + 1)]
        spec = spec.extended(completed, more)
        assert spec.epochs == sum(done) + more
        assert [spec.epochs_of_round(number) for number in range(1, completed + 1)] == done
        assert (spec.epochs_after(completed), spec.rounds_before_extension) == (sum(done), completed)
    every = [spec.epochs_of_round(number) for number in range(1, spec.total_rounds + 1)]
    assert sum(every) == spec.epochs_after(spec.total_rounds) == spec.epochs
    assert all(1 <= epochs <= local for epochs in every)


def test_more_than_the_most_epochs_are_refused() -> None:
    spec = TrainingSpec(dataset="/data/x.json", epochs=9_000)
    with pytest.raises(InvalidError) as refused:
        spec.extended(9_000, 1_001)
    assert [error.pointer for error in refused.value.errors] == ["/epochs"]


@given(st.integers(0, 1000), st.integers(1, 500), st.integers(1, 50))
def test_epoch_never_exceeds_the_total(completed: int, total: int, local: int) -> None:
    assert 0 <= epoch(completed, total, local) <= total


def test_remaining_is_null_before_a_round_is_done() -> None:
    assert remaining_seconds([], 10) is None


def test_remaining_follows_the_last_five_rounds() -> None:
    assert remaining_seconds([100, 2, 2, 2, 2, 2], 3) == 6


def test_nothing_remains_after_the_last_round() -> None:
    assert remaining_seconds([], 0) == 0


def test_convergence_needs_two_falls() -> None:
    assert convergence_rate([1.0, 0.5]) is None


@pytest.mark.parametrize(
    ("losses", "rate"),
    [([1.0, 0.5, 0.5], 1.0), ([1.0, 0.5, 0.0], 0.0), ([1.0, 0.5, 0.25], 0.5), ([1.0, 2.0, 3.0], 1.0), ([1.0, 0.5, 0.9], 1.0)],
)
def test_convergence_by_hand(losses: list[float], rate: float) -> None:
    assert convergence_rate(losses) == pytest.approx(rate)


@given(st.lists(st.floats(0, 100), min_size=3, max_size=30))
def test_convergence_stays_in_its_range(losses: list[float]) -> None:
    rate = convergence_rate(losses)
    assert rate is not None
    assert 0 <= rate <= 1


measured = st.tuples(st.floats(-1e6, 1e6), st.integers(1, 10_000))


@given(st.lists(measured, min_size=1, max_size=10), st.randoms())
def test_weighted_mean_lies_within_its_inputs_in_any_order(values: list[tuple[float, int]], random: object) -> None:
    mean = weighted_mean(values)
    assert mean is not None
    slack = 1e-6 * (1 + max(abs(value) for value, _ in values))
    assert min(value for value, _ in values) - slack <= mean <= max(value for value, _ in values) + slack
    shuffled = list(values)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert weighted_mean(shuffled) == pytest.approx(mean, abs=slack)


def test_weighted_mean_of_nothing_measured_is_null() -> None:
    assert weighted_mean([(None, 5), (0.5, None), (0.5, 0)]) is None


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, None), (0.4, "0s"), (59.4, "59s"), (510, "8m 30s"), (735.2, "12m 15s"), (7500, "2h 5m")]
)
def test_clock(seconds: float | None, text: str | None) -> None:
    assert duration_text(seconds) == text


def test_cosine_falls_from_the_initial_rate() -> None:
    rates = [learning_rate(0.1, number, 10, "cosine") for number in range(1, 11)]
    assert rates[0] == 0.1
    assert rates[5] == pytest.approx(0.05)
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] > 0


def test_a_constant_rate_stays() -> None:
    assert {learning_rate(0.1, number, 10, "constant") for number in range(1, 11)} == {0.1}


@given(st.integers(1, 500), st.integers(1, 50))
def test_epochs_rise_from_zero_to_the_total_without_a_step_back(total: int, local: int) -> None:
    seen = [epoch(number, total, local) for number in range(total_rounds(total, local) + 2)]
    assert seen[0] == 0
    assert seen == sorted(seen)
    assert seen[-1] == total
    assert all(later - earlier <= local for earlier, later in pairwise(seen))


seconds = st.lists(st.floats(0.001, 1e5), min_size=1, max_size=30)


@given(seconds, st.integers(1, 1000))
def test_the_time_left_lies_between_the_fastest_and_the_slowest_recent_round(recent: list[float], left: int) -> None:
    found = remaining_seconds(recent, left)
    assert found is not None
    assert min(recent[-5:]) * left * (1 - 1e-9) <= found <= max(recent[-5:]) * left * (1 + 1e-9)
    assert found == remaining_seconds(recent[-5:], left), "older rounds do not count"


@given(seconds, st.integers(-5, 0))
def test_no_round_left_is_no_time_left(recent: list[float], left: int) -> None:
    assert remaining_seconds(recent, left) == 0


@given(st.lists(st.floats(0, 100), min_size=3, max_size=30), st.floats(0.5, 2), st.floats(0, 50))
def test_convergence_asks_for_the_falls_and_not_for_their_scale(losses: list[float], scale: float, offset: float) -> None:
    falls = [earlier - later for earlier, later in pairwise(losses)]
    assume(not 0 < max(falls) < 1e-3)
    other = convergence_rate([loss * scale + offset for loss in losses])
    assert other == pytest.approx(convergence_rate(losses), abs=1e-6)


@given(st.floats(0.1, 100), st.integers(3, 30))
def test_a_loss_that_falls_as_fast_as_ever_has_not_begun_to_converge(step: float, rounds: int) -> None:
    assert convergence_rate([step * (rounds - number) for number in range(rounds)]) == pytest.approx(0, abs=1e-6)


@given(st.integers(1, 400), st.floats(1e-6, 10), st.sampled_from(["constant", "cosine"]))
def test_a_rate_stays_between_zero_and_the_initial_one(rounds: int, initial: float, schedule: str) -> None:
    rates = [learning_rate(initial, number, rounds, schedule) for number in range(1, rounds + 1)]
    assert rates[0] == pytest.approx(initial)
    assert all(0 < rate <= initial * (1 + 1e-12) for rate in rates)


@given(st.floats(0, 1e7))
def test_a_clock_shows_at_most_a_minute_less_or_half_a_second_more_than_there_is(value: float) -> None:
    parts = re.findall(r"(\d+)([hms])", duration_text(value) or "")
    shown = sum(int(number) * {"h": 3600, "m": 60, "s": 1}[unit] for number, unit in parts)
    assert shown - 0.5 <= value < shown + 60.5
    assert 1 <= len(parts) <= 2


def test_the_compression_ratio_is_bytes_over_whole_fp32_models() -> None:
    assert compression_ratio(2_000, 2, 1_000) == 0.25
    assert compression_ratio(None, 2, 1_000) is None
    assert compression_ratio(2_000, 0, 1_000) is None

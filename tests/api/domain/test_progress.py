import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.domain.progress import (
    clock,
    compression_ratio,
    convergence_rate,
    epoch,
    epochs_of_round,
    learning_rate,
    remaining_seconds,
    total_rounds,
    weighted_mean,
)


@given(st.integers(1, 500), st.integers(1, 50))
def test_rounds_train_exactly_the_epochs_asked_for(total: int, local: int) -> None:
    rounds = total_rounds(total, local)
    trained = [epochs_of_round(number, total, local) for number in range(1, rounds + 1)]
    assert sum(trained) == total
    assert min(trained) >= 1
    assert epoch(rounds, total, local) == total


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
    assert clock(seconds) == text


def test_cosine_falls_from_the_initial_rate() -> None:
    rates = [learning_rate(0.1, number, 10, "cosine") for number in range(1, 11)]
    assert rates[0] == 0.1
    assert rates[5] == pytest.approx(0.05)
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] > 0


def test_a_constant_rate_stays() -> None:
    assert {learning_rate(0.1, number, 10, "constant") for number in range(1, 11)} == {0.1}


def test_the_compression_ratio_is_bytes_over_whole_fp32_models() -> None:
    assert compression_ratio(2_000, 2, 1_000) == 0.25
    assert compression_ratio(None, 2, 1_000) is None
    assert compression_ratio(2_000, 0, 1_000) is None

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.domain.cost import overlap_cost, per_accuracy_point, per_epoch, sandbox_cost

START = datetime(2026, 1, 1, tzinfo=UTC)
PRICE = Decimal("0.05")


def after(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


def test_the_walkthroughs_bill() -> None:
    workers = 4 * sandbox_cost(START, after(25), after(99), PRICE)
    aggregator = sandbox_cost(START, after(25), after(99), Decimal("0.08"))
    assert (workers, aggregator) == (Decimal("5.000000"), Decimal("2.000000"))
    assert per_epoch(workers + aggregator, 50) == Decimal("0.140000")
    assert per_accuracy_point(workers + aggregator, 0.921) == Decimal("0.076004")


def test_a_sandbox_that_never_started_costs_nothing() -> None:
    assert sandbox_cost(None, None, START, PRICE) == 0


def test_a_running_sandbox_costs_up_to_now() -> None:
    assert sandbox_cost(START, None, after(10), PRICE) == Decimal("0.500000")


def test_nothing_measured_is_null() -> None:
    assert per_epoch(Decimal(1), 0) is None
    assert per_accuracy_point(Decimal(1), None) is None


minutes = st.integers(0, 10_000)


@given(minutes, minutes, minutes, minutes)
def test_overlap_is_never_negative_nor_more_than_the_whole(start: int, life: int, since: int, length: int) -> None:
    whole = overlap_cost(after(start), after(start + life), after(start), after(start + life), PRICE)
    part = overlap_cost(after(start), after(start + life), after(since), after(since + length), PRICE)
    assert 0 <= part <= whole


@given(minutes, st.lists(st.integers(1, 5000), min_size=1, max_size=6))
def test_the_parts_of_a_life_cost_what_the_whole_costs(start: int, lengths: list[int]) -> None:
    """Trainings and idle times divide a sandbox's life. Each part is billed exactly once."""
    end = after(start + sum(lengths))
    cuts = [start, *(start + sum(lengths[: number + 1]) for number in range(len(lengths)))]
    parts = [overlap_cost(after(start), end, after(a), after(b), PRICE) for a, b in pairwise(cuts)]
    assert sum(parts) == pytest.approx(sandbox_cost(after(start), end, end, PRICE), abs=Decimal("0.000001") * len(parts))


@given(minutes, minutes, minutes, st.decimals(0, 10, places=4))
def test_a_bill_grows_with_time_and_price_and_never_shrinks(start: int, earlier: int, later: int, price: Decimal) -> None:
    first, second = sorted((earlier, later))
    bills = [sandbox_cost(after(start), None, after(start + length), price) for length in (first, second)]
    assert 0 <= bills[0] <= bills[1]
    assert bills[1] <= sandbox_cost(after(start), None, after(start + second), price + 1)


@given(minutes, minutes, minutes)
def test_an_ended_sandbox_costs_nothing_more(start: int, life: int, later: int) -> None:
    end = after(start + life)
    bills = {sandbox_cost(after(start), end, end + timedelta(minutes=extra), PRICE) for extra in (0, later)}
    assert len(bills) == 1


@given(st.decimals(0, 10_000, places=6), st.integers(1, 1000), st.floats(0.001, 1))
def test_shares_of_a_bill_add_up_to_it(total: Decimal, epochs: int, accuracy: float) -> None:
    each, point = per_epoch(total, epochs), per_accuracy_point(total, accuracy)
    assert each is not None
    assert point is not None
    assert abs(each * epochs - total) <= Decimal("0.0000005") * epochs
    assert abs(point * Decimal(str(accuracy * 100)) - total) <= Decimal("0.00005") + Decimal("0.000001")

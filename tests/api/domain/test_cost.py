from datetime import UTC, datetime, timedelta
from decimal import Decimal

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

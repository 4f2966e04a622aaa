from decimal import Decimal

import pytest

from api.domain.stopping import Spent, StoppingRules, stop_reason

NOTHING = Spent(0.0, Decimal(0), Decimal(0))


def code(
    rules: StoppingRules, accuracies: list[float | None], spent: Spent = NOTHING, last_s: float | None = 10.0
) -> str | None:
    found = stop_reason(rules, accuracies, spent, last_s)
    return found.code if found else None


def test_without_rules_a_training_goes_on() -> None:
    assert code(StoppingRules(), [0.99] * 50, Spent(1e9, Decimal(10**9), Decimal(1))) is None


@pytest.mark.parametrize(("accuracies", "ends"), [([0.89], False), ([0.9], True), ([0.95, 0.85], False), ([None], False)])
def test_the_target_counts_for_the_newest_model(accuracies: list[float | None], ends: bool) -> None:
    assert (code(StoppingRules(target_accuracy=0.9), accuracies) == "target_reached") is ends


@pytest.mark.parametrize(
    ("accuracies", "ends"),
    [
        ([0.8, 0.8], False),
        ([0.8, 0.8, 0.8], True),
        ([0.8, 0.7, 0.81], False),
        ([0.8, 0.7, 0.81, 0.8, 0.81], True),
        ([0.8, None, None, None], False),
        ([0.1, 0.2, 0.3, 0.4], False),
    ],
)
def test_patience_is_rounds_without_a_better_accuracy(accuracies: list[float | None], ends: bool) -> None:
    assert (code(StoppingRules(patience=2), accuracies) == "no_progress") is ends


def test_a_round_that_would_overrun_the_budget_is_not_begun() -> None:
    rules = StoppingRules(budget_usd=1.0)
    assert code(rules, [0.5], Spent(100, Decimal("0.89"), Decimal("0.01"))) is None
    assert code(rules, [0.5], Spent(100, Decimal("0.91"), Decimal("0.01"))) == "budget_spent"


def test_a_round_that_would_overrun_the_time_is_not_begun() -> None:
    rules = StoppingRules(max_minutes=1.0)
    assert code(rules, [0.5], Spent(49, Decimal(0), Decimal(0))) is None
    assert code(rules, [0.5], Spent(51, Decimal(0), Decimal(0))) == "time_over"
    assert code(rules, [0.5], Spent(61, Decimal(0), Decimal(0)), None) == "time_over"


def test_the_reason_is_told_in_figures() -> None:
    found = stop_reason(StoppingRules(target_accuracy=0.9), [0.5, 0.9312], NOTHING, 1.0)
    assert found is not None
    assert "0.9312" in found.detail
    assert "0.9" in found.detail

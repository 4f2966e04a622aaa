import pytest

from workers.agent.protocol.common import Autonomy
from workers.agent.runtime.autonomy import EARLY_STOP, HALVE_RATE, RETRY, AutonomousAction, allowed


@pytest.mark.parametrize(("action", "level"), [(RETRY, 0.3), (HALVE_RATE, 0.6), (EARLY_STOP, 0.8)])
def test_each_action_begins_at_its_level_and_only_where_autonomy_is_on(action: AutonomousAction, level: float) -> None:
    assert allowed(action, Autonomy(enabled=True, level=level))
    assert allowed(action, Autonomy(enabled=True, level=1.0))
    assert not allowed(action, Autonomy(enabled=True, level=level - 0.001))
    assert not allowed(action, Autonomy(enabled=False, level=1.0))
    assert not allowed(action, Autonomy())


def test_a_decision_names_its_act_and_its_reason() -> None:
    decision = RETRY.decision("the way was cut")
    assert (decision.action, decision.reason) == ("retry_transfer", "the way was cut")

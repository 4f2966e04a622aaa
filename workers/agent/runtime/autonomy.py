"""What a node may decide by itself, by its autonomy level (only in clusters with `daa_enabled`).

- Below 0.3 a node decides nothing. Any failure fails its round.
- From 0.3 it retries a failed transfer. Its watchdog restarts a dead agent (watchdog.py). The
  agent then resumes the round from its last checkpoint (checkpoint.py).
- From 0.6 it halves its batch when memory runs out (memory.py). It halves its learning rate when
  its loss diverges.
- From 0.8 it stops local training early when its held-out loss rises. It may decline a round
  (declining.py).

Each action is a `Decision` with its reason. The control plane turns it into an event
`node.decision`.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from workers.agent.protocol.admin import SELF_RESTART_LEVEL
from workers.agent.protocol.common import Autonomy, Decision, DecisionAction


@dataclass(frozen=True, slots=True)
class AutonomousAction:
    """An action, and the lowest level at which a node may take it."""

    action: DecisionAction
    level: float

    def decision(self, reason: str) -> Decision:
        return Decision(action=self.action, reason=reason)


RETRY = AutonomousAction("retry_transfer", 0.3)
RESTART = AutonomousAction("restart_agent", SELF_RESTART_LEVEL)
RESUME = AutonomousAction("resume_round", 0.3)
HALVE_BATCH = AutonomousAction("halve_batch", 0.6)
HALVE_RATE = AutonomousAction("halve_learning_rate", 0.6)
EARLY_STOP = AutonomousAction("stop_early", 0.8)
DECLINE = AutonomousAction("decline_round", 0.8)


def allowed(action: AutonomousAction, autonomy: Autonomy) -> bool:
    return autonomy.allows(action.level)


class PendingDecisions:
    """Decisions made outside a round. The next report of this agent carries them, once."""

    def __init__(self, decisions: Iterable[Decision] = ()) -> None:
        self._decisions = [*decisions]

    def drain(self) -> list[Decision]:
        """Return the decisions and forget them."""
        drained, self._decisions = self._decisions, []
        return drained

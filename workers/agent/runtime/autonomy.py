"""What a node may decide by itself, by its autonomy level (only in clusters with daa_enabled).

Below 0.3 it obeys and reports: whatever fails, fails its round. From 0.3 it tries a failed transfer again, its watchdog starts
a dead agent again (watchdog.py), and the agent goes on with the round from its last checkpoint (checkpoint.py). From 0.6 it
halves its batch when memory runs out (memory.py) and its learning rate when its loss diverges. From 0.8 it ends local training
early when its own held-out loss rises, and may decline a round (declining.py). Each act is a Decision with its reason; the
control plane makes an event `node.decision` of it.
"""

from dataclasses import dataclass

from workers.agent.protocol.admin import SELF_RESTART_LEVEL
from workers.agent.protocol.common import Autonomy, Decision


@dataclass(frozen=True, slots=True)
class AutonomousAction:
    """An act, and the level from which a node may do it."""

    action: str
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


def take_pending_decisions(decisions: list[Decision]) -> list[Decision]:
    """What the next report is to tell, taken out of the list: one report tells it."""
    taken = [*decisions]
    decisions.clear()
    return taken


def allowed(action: AutonomousAction, autonomy: Autonomy) -> bool:
    return autonomy.allows(action.level)

"""What a node may decide by itself, by its autonomy level (only in clusters with daa_enabled).

Below 0.3 it obeys and reports. From 0.3 it tries a failed transfer again. From 0.6 it halves its learning rate when its
loss diverges. From 0.8 it ends local training early when its own held-out loss rises. Each act is a Decision with its reason.
"""

from dataclasses import dataclass

from workers.agent.protocol import Autonomy, Decision


@dataclass(frozen=True, slots=True)
class Liberty:
    """An act, and the level from which a node may do it."""

    action: str
    level: float

    def decision(self, reason: str) -> Decision:
        return Decision(action=self.action, reason=reason)


RETRY = Liberty("retry_transfer", 0.3)
HALVE_RATE = Liberty("halve_learning_rate", 0.6)
EARLY_STOP = Liberty("stop_early", 0.8)


def may(liberty: Liberty, autonomy: Autonomy) -> bool:
    return autonomy.enabled and autonomy.level >= liberty.level

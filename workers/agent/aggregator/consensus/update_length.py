"""Updates that lie much farther from the round's base than the others'.

Noise and scaled updates do their harm in a first round, in which no model is better than a guess and a committee cannot tell
them from honest ones. Their length gives them away: honest updates of as many steps are about equally long.
"""

from collections.abc import Mapping
from statistics import median

# Honest lengths differ by what a shard still has to teach; measured well below 2 between shards of one kind.
_FARTHEST = 4.0
# Of two updates nobody can say which one is out of line.
_FEWEST = 3
OUT_OF_REACH = "its update is several times as long as the others'"


def too_long(updates: Mapping[str, tuple[float, int]]) -> list[str]:
    """Names of the updates, each its distance from the base and its steps, that are longer than four times the median length.
    One of more steps than the median may be longer in proportion. A minority cannot move the median beyond an honest update's
    length."""
    if len(updates) < _FEWEST:
        return []
    usual, usual_steps = (median(values) for values in zip(*updates.values(), strict=True))
    return [name for name, (length, steps) in updates.items() if length > _FARTHEST * usual * max(1.0, steps / usual_steps)]

"""Updates that lie much farther from the round's base than the others.

Noise and scaled updates do most harm in a first round. No model is better than a guess then, and a
committee cannot tell them from honest updates. Their length shows them: honest updates with the
same number of steps are about equally long.
"""

from collections.abc import Mapping
from statistics import median

# Honest lengths differ by how much the model can still learn from a shard. The measured ratio
# between similar shards is well below 2.
_FARTHEST = 4.0
# With two updates there is no majority.
_FEWEST = 3
OUT_OF_REACH = "its update is several times as long as the others'"


def too_long(updates: Mapping[str, tuple[float, int]]) -> list[str]:
    """Return the names of the updates that are longer than four times the median length.

    `updates` gives each update's distance from the base and its number of steps. An update with
    more steps than the median may be longer in proportion. A minority cannot move the median
    beyond the length of an honest update.
    """
    if len(updates) < _FEWEST:
        return []
    median_length, median_steps = (median(values) for values in zip(*updates.values(), strict=True))
    limit = _FARTHEST * median_length
    return [name for name, (length, steps) in updates.items() if length > limit * max(1.0, steps / median_steps)]

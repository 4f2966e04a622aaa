"""How far the workers' models are from agreeing, under gossip."""

from collections.abc import Iterable
from pathlib import Path

from workers.agent.storage import tensors
from workers.agent.updates import norms


def consensus_distance(models: Iterable[tuple[Path, int]], mean: Path) -> float:
    """Mean Euclidean distance of the models from their mean, over the mean's own norm; each file counts so many times."""
    middle, total, count, own = tensors.read(mean), 0.0, 0, 0.0
    for path, times in models:
        moved, own = norms.distance(tensors.read(path), middle)
        total, count = total + times * moved, count + times
    return total / count / own

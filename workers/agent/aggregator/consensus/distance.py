"""The distance of the workers' models from their mean, under gossip."""

from collections.abc import Iterable
from pathlib import Path

from workers.agent.storage import tensors
from workers.agent.updates import norms


def consensus_distance(models: Iterable[tuple[Path, int]], mean_path: Path) -> float:
    """Return the models' mean Euclidean distance from the mean, divided by the mean's norm.

    `models` are files, each with the number of workers that have this model.
    """
    mean, total, count, mean_norm = tensors.read(mean_path), 0.0, 0, 0.0
    for path, workers in models:
        distance, mean_norm = norms.distance(tensors.read(path), mean)
        total, count = total + workers * distance, count + workers
    return total / count / mean_norm

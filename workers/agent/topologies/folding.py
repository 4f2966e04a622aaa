"""A weighted mean of updates that are files, with one update in memory at a time."""

from collections.abc import Sequence
from pathlib import Path

from workers.agent.storage import tensors
from workers.agent.strategies.fedavg import FedAvg
from workers.agent.topologies.peer_averaging import Mean
from workers.agent.updates.validation import validate_update


def mean_of_files(files: Sequence[tuple[str, Path]], node_id: str, base: Path) -> Mean:
    """Return the mean of (author, file) pairs. Delete the files of other nodes than `node_id`.

    Raises: AgentError for an update that the aggregator would refuse.
    """
    mean, start = FedAvg(), tensors.read(base)
    for author, path in files:
        update = validate_update(path, author, start)
        mean.add(update.state, update.report.samples or 0)
        if author != node_id:
            path.unlink()
    return Mean(mean.result(), mean.count)

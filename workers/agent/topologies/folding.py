"""A weighted mean of updates that lie in files, one in memory at a time."""

from collections.abc import Sequence
from pathlib import Path

from workers.agent.storage import tensors
from workers.agent.strategies.fedavg import FedAvg
from workers.agent.topologies.peer_averaging import Mean
from workers.agent.updates.validation import validate_update


def folded(files: Sequence[tuple[str, Path]], own: str, base: Path) -> Mean:
    """The mean of (author, file) pairs; files of others are deleted once they are folded in. An update that the door would
    refuse is an AgentError, as it is at the aggregator."""
    mean, start = FedAvg(), tensors.read(base)
    for node_id, path in files:
        update = validate_update(path, node_id, start)
        mean.add(update.state, update.report.samples or 0)
        if node_id != own:
            path.unlink()
    return Mean(mean.result(), mean.count)

"""Gossip: a worker averages with one neighbour and continues from that. Nobody averages over all.

Boyd et al., "Randomized Gossip Algorithms", IEEE Transactions on Information Theory 52(6), 2006.
Pairwise averages keep the mean of all models and bring each model nearer to it. Each round draws
the pairs: a matching along the topology's edges. A worker without a pair keeps its own model. Both
workers of a pair count the same, whatever their numbers of samples.

The aggregator has no part in the averaging. It fetches each pair's model, then publishes and
measures the mean of all. That mean is used for predictions, exports and copies. A worker without a
model of its own also begins from it.
"""

import asyncio
from pathlib import Path

from workers.agent.storage import tensors
from workers.agent.strategies.fedavg import FedAvg
from workers.agent.topologies.peer_averaging import UPDATE, Mean, PeerAveraging
from workers.agent.updates.validation import validate_update


async def average_with_peers(averaging: PeerAveraging) -> Mean:
    """Return the pair's mean, the same bits for both. It counts as one model."""
    group = averaging.group
    files = {averaging.node_id: averaging.update}
    for node_id in group:
        if node_id != averaging.node_id:
            files[node_id] = await averaging.fetch(averaging.peer(node_id), UPDATE)
    return await asyncio.to_thread(_mean, {node_id: files[node_id] for node_id in group}, averaging.base)


def _mean(files: dict[str, Path], base: Path) -> Mean:
    mean, start = FedAvg(), tensors.read(base)
    for node_id, path in files.items():
        mean.add(validate_update(path, node_id, start).state, 1)
    return Mean(mean.result(), 1)

"""Gossip: a worker averages with one neighbour and goes on from that; nobody ever averages over all.

Boyd et al., "Randomized Gossip Algorithms", IEEE Transactions on Information Theory 52(6), 2006: pairwise averages leave the
mean of all models as it is and bring each model nearer to it. Which neighbours meet is drawn for each round, a matching along
the topology's edges; who is left over keeps its own model. Both of a pair count the same, whatever their numbers of samples.
The aggregator has no part in this: it takes each pair's model to publish and measure the mean of all, which is what is
predicted with, exported, kept in copies and gone on from where a worker has no model of its own.
"""

import asyncio
from pathlib import Path

from workers.agent.storage import tensors
from workers.agent.strategies.fedavg import FedAvg
from workers.agent.topologies.peer_averaging import UPDATE, Mean, PeerAveraging
from workers.agent.updates.validation import validate_update


async def average_with_peers(averaging: PeerAveraging) -> Mean:
    """The pair's mean, the same bits for both; it stands for one model."""
    group = next(group for group in averaging.path.groups if averaging.node_id in group)
    by_id = {peer.node_id: peer for peer in averaging.peers}
    files = {averaging.node_id: averaging.update}
    for node_id in group:
        if node_id != averaging.node_id:
            files[node_id] = await averaging.take(by_id[node_id], UPDATE)
    return await asyncio.to_thread(_mean, {node_id: files[node_id] for node_id in group}, averaging.base)


def _mean(files: dict[str, Path], base: Path) -> Mean:
    mean, start = FedAvg(), tensors.read(base)
    for node_id, path in files.items():
        mean.add(validate_update(path, node_id, start).state, 1)
    return Mean(mean.result(), 1)

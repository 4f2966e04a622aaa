"""Mesh: every worker takes every other's update and averages by itself; n (n - 1) models travel between n workers."""

import asyncio

from workers.agent.topologies.folding import folded
from workers.agent.topologies.peer_averaging import UPDATE, Mean, PeerAveraging


async def average_with_peers(averaging: PeerAveraging) -> Mean:
    """The mean of all updates, the same bits on every worker: they are added up in the peers' order."""
    count, place = len(averaging.peers), averaging.place
    files = {averaging.node_id: averaging.update}
    # Each begins with its next neighbour, so that not everybody asks the same worker at once.
    for step in range(1, count):
        peer = averaging.peers[(place + step) % count]
        files[peer.node_id] = await averaging.take(peer, UPDATE)
    ordered = [(peer.node_id, files[peer.node_id]) for peer in averaging.peers]
    return await asyncio.to_thread(folded, ordered, averaging.node_id, averaging.base)

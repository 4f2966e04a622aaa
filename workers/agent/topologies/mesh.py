"""Mesh: every worker fetches every other update and averages by itself.

n (n - 1) models travel between n workers.
"""

import asyncio

from workers.agent.topologies.folding import mean_of_files
from workers.agent.topologies.peer_averaging import UPDATE, Mean, PeerAveraging


async def average_with_peers(averaging: PeerAveraging) -> Mean:
    """Return the mean of all updates: the same bits on every worker, by adding in peer order."""
    count, place = len(averaging.peers), averaging.place
    files = {averaging.node_id: averaging.update}
    # Each worker begins with its next neighbour, so that requests do not all reach one worker.
    for step in range(1, count):
        peer = averaging.peers[(place + step) % count]
        files[peer.node_id] = await averaging.fetch(peer, UPDATE)
    ordered = [(peer.node_id, files[peer.node_id]) for peer in averaging.peers]
    return await asyncio.to_thread(mean_of_files, ordered, averaging.node_id, averaging.base)

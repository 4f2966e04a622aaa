"""Hierarchical: members send updates to their group's head, heads send means to the aggregator."""

import asyncio

from workers.agent.protocol.common import Peer
from workers.agent.protocol.exchange import DataPath
from workers.agent.topologies.folding import mean_of_files
from workers.agent.topologies.peer_averaging import UPDATE, Mean, PeerAveraging


async def average_with_peers(averaging: PeerAveraging) -> Mean | None:
    """Return a head's mean over its group; None for a member, whose head has its update."""
    head, *members = averaging.group
    if head != averaging.node_id:
        return None
    files = [(averaging.node_id, averaging.update)]
    for member in members:
        files.append((member, await averaging.fetch(averaging.peer(member), UPDATE)))
    return await asyncio.to_thread(mean_of_files, files, averaging.node_id, averaging.base)


def head_of(path: DataPath, node_id: str) -> Peer | None:
    """Return a member's head; None for a head itself, and in other topologies."""
    if path.kind != "hierarchical":
        return None
    head = next((group[0] for group in path.groups if node_id in group), node_id)
    return next((peer for peer in path.peers if peer.node_id == head and head != node_id), None)

"""Hierarchical: the members of a group hand their updates to its head, and the heads' means go to the aggregator."""

import asyncio

from workers.agent.protocol.common import Peer
from workers.agent.protocol.exchange import DataPath
from workers.agent.topologies.folding import folded
from workers.agent.topologies.peer_averaging import UPDATE, Mean, PeerAveraging


async def average_with_peers(averaging: PeerAveraging) -> Mean | None:
    """A head's mean over its group; None for a member, whose head takes its update."""
    group = next(group for group in averaging.path.groups if averaging.node_id in group)
    if group[0] != averaging.node_id:
        return None
    by_id = {peer.node_id: peer for peer in averaging.peers}
    files = [(averaging.node_id, averaging.update)]
    for member in group[1:]:
        files.append((member, await averaging.take(by_id[member], UPDATE)))
    return await asyncio.to_thread(folded, files, averaging.node_id, averaging.base)


def head_of(path: DataPath, node_id: str) -> Peer | None:
    """The head above a member; None for a head itself, and in other topologies."""
    if path.kind != "hierarchical":
        return None
    head = next((group[0] for group in path.groups if node_id in group), node_id)
    return next((peer for peer in path.peers if peer.node_id == head and head != node_id), None)

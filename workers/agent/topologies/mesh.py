"""Mesh: every worker takes every other's update and averages by itself; n (n - 1) models travel between n workers."""

import asyncio

from workers.agent.topologies.folding import folded
from workers.agent.topologies.meeting import UPDATE, Mean, Meeting


async def meet(meeting: Meeting) -> Mean:
    """The mean of all updates, the same bits on every worker: they are added up in the peers' order."""
    count, place = len(meeting.peers), meeting.place
    files = {meeting.node_id: meeting.update}
    # Each begins with its next neighbour, so that not everybody asks the same worker at once.
    for step in range(1, count):
        peer = meeting.peers[(place + step) % count]
        files[peer.node_id] = await meeting.take(peer, UPDATE)
    ordered = [(peer.node_id, files[peer.node_id]) for peer in meeting.peers]
    return await asyncio.to_thread(folded, ordered, meeting.node_id, meeting.base)

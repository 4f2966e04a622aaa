"""The sum of all workers' vectors, by the cluster's topology. Every worker gets the same bits.

- star: each vector goes to the aggregator, and the sum comes back.
- mesh: every worker sends to every other.
- ring: reduce-scatter and all-gather (Patarasuk and Yuan, JPDC 69(2), 2009). Each link carries
  2 (n - 1) / n of a vector.
- hierarchical: members send to their head and heads to the aggregator. The sum comes back the same
  way.

A vector is flat fp32.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch

from workers.agent.protocol.common import Peer
from workers.agent.runtime.errors import AgentError
from workers.agent.synchronous.connections import Inbox, PeerConnections


@dataclass(slots=True)
class AllReduceContext:
    """A node and its peers in one attempt at a round. `step` counts all steps of the round."""

    node_id: str
    peers: Sequence[Peer]
    aggregator: Peer
    groups: Sequence[Sequence[str]]
    connections: PeerConnections
    inbox: Inbox
    wait_s: float
    step: int = 0

    @property
    def place(self) -> int:
        """This node's index among the peers."""
        return next(index for index, peer in enumerate(self.peers) if peer.node_id == self.node_id)

    def peer(self, node_id: str) -> Peer:
        return next(peer for peer in self.peers if peer.node_id == node_id)

    async def send(self, peer: Peer, name: str, vector: torch.Tensor) -> None:
        await self.connections.send(peer, f"{self.step}-{name}", vector.numpy().tobytes())

    async def receive(self, peer: Peer, name: str, length: int) -> torch.Tensor:
        """Wait for a peer's vector of `length` numbers.

        Raises: AgentError `peer_slow`, or `bad_part` for a vector of another length.
        """
        body = await self.inbox.take(f"{self.step}-{name}", peer, self.wait_s)
        if len(body) != 4 * length:
            raise AgentError("bad_part", f"{peer.node_id} sent a vector of the wrong length")
        return torch.frombuffer(bytearray(body), dtype=torch.float32) if length else torch.empty(0)


async def _together(*work: Coroutine[Any, Any, None]) -> None:
    """Run all at the same time. The first one that fails cancels the others."""
    try:
        async with asyncio.TaskGroup() as group:
            for coroutine in work:
                group.create_task(coroutine)
    except* AgentError as errors:
        raise errors.exceptions[0] from None


async def _star(context: AllReduceContext, vector: torch.Tensor) -> torch.Tensor:
    await context.send(context.aggregator, "up", vector)
    return await context.receive(context.aggregator, "down", vector.numel())


async def _mesh(context: AllReduceContext, vector: torch.Tensor) -> torch.Tensor:
    others = [peer for peer in context.peers if peer.node_id != context.node_id]
    await _together(*(context.send(peer, "all", vector) for peer in others))
    total = torch.zeros_like(vector)
    for peer in context.peers:
        total += vector if peer.node_id == context.node_id else await context.receive(peer, "all", vector.numel())
    return total


async def _ring(context: AllReduceContext, vector: torch.Tensor) -> torch.Tensor:
    count, place = len(context.peers), context.place
    previous, following = context.peers[place - 1], context.peers[(place + 1) % count]
    total = vector.clone()
    chunks = torch.tensor_split(total, count)
    for turn in range(count - 1):
        sent, received = chunks[(place - turn) % count], chunks[(place - turn - 1) % count]
        await context.send(following, f"reduce-{turn}", sent)
        received += await context.receive(previous, f"reduce-{turn}", received.numel())
    for turn in range(count - 1):
        sent, received = chunks[(place + 1 - turn) % count], chunks[(place - turn) % count]
        await context.send(following, f"gather-{turn}", sent)
        received.copy_(await context.receive(previous, f"gather-{turn}", received.numel()))
    return total


async def _hierarchical(context: AllReduceContext, vector: torch.Tensor) -> torch.Tensor:
    head, *members = next(group for group in context.groups if context.node_id in group)
    if head != context.node_id:
        await context.send(context.peer(head), "up", vector)
        return await context.receive(context.peer(head), "down", vector.numel())
    total = vector.clone()
    for member in members:
        total += await context.receive(context.peer(member), "up", vector.numel())
    await context.send(context.aggregator, "up", total)
    total = await context.receive(context.aggregator, "down", vector.numel())
    await _together(*(context.send(context.peer(member), "down", total) for member in members))
    return total


AllReduce = Callable[[AllReduceContext, torch.Tensor], Coroutine[Any, Any, torch.Tensor]]
ALL_REDUCE: Final[dict[str, AllReduce]] = {
    "star": _star,
    "mesh": _mesh,
    "ring": _ring,
    "hierarchical": _hierarchical,
}


def sources_of(context: AllReduceContext, kind: str) -> list[Peer]:
    """Return the peers whose vectors go to the aggregator itself."""
    if kind == "star":
        return list(context.peers)
    return [context.peer(group[0]) for group in context.groups] if kind == "hierarchical" else []


async def lead(context: AllReduceContext, sources: Sequence[Peer], steps: int, length: int) -> None:
    """Do the aggregator's part of `steps` steps.

    Each step adds the sources' vectors in their order, and sends the sum to all sources.
    """
    for step in range(steps if sources else 0):
        context.step = step
        total = torch.zeros(length)
        for peer in sources:
            total += await context.receive(peer, "up", length)
        await _together(*(context.send(peer, "down", total) for peer in sources))

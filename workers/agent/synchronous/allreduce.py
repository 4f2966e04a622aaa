"""The sum of all workers' vectors, the same bits at every worker, by the cluster's topology.

star: up to the aggregator and down again. mesh: every worker to every other. ring: reduce-scatter and all-gather (Patarasuk and
Yuan, JPDC 69(2), 2009), 2 (n - 1) / n of a vector over each link. hierarchical: members to their head, heads to the aggregator,
and back. A vector is flat fp32.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import torch

from workers.agent.protocol.common import Peer
from workers.agent.runtime.errors import AgentError
from workers.agent.synchronous.connections import Inbox, PeerConnections


@dataclass(slots=True)
class AllReduceContext:
    """A node's place among the others, in one attempt at a round. `step` counts up over the round."""

    node_id: str
    peers: Sequence[Peer]
    aggregator: Peer
    groups: Sequence[Sequence[str]]
    connections: PeerConnections
    box: Inbox
    wait_s: float
    step: int = 0

    @property
    def place(self) -> int:
        return next(index for index, peer in enumerate(self.peers) if peer.node_id == self.node_id)

    def named(self, node_id: str) -> Peer:
        return next(peer for peer in self.peers if peer.node_id == node_id)

    async def send(self, peer: Peer, name: str, vector: torch.Tensor) -> None:
        await self.connections.send(peer, f"{self.step}-{name}", vector.numpy().tobytes())

    async def take(self, peer: Peer, name: str, length: int) -> torch.Tensor:
        """AgentError `peer_slow`, or `bad_part` for a vector of another length."""
        body = await self.box.take(f"{self.step}-{name}", peer, self.wait_s)
        if len(body) != 4 * length:
            raise AgentError("bad_part", f"{peer.node_id} sent a vector of the wrong length")
        return torch.frombuffer(bytearray(body), dtype=torch.float32) if length else torch.empty(0)


async def _together(*awaitables: Awaitable[object]) -> None:
    """All at once; the first that fails ends the others."""
    try:
        async with asyncio.TaskGroup() as group:
            for one in awaitables:
                group.create_task(_awaited(one))
    except* AgentError as errors:
        raise errors.exceptions[0] from None


async def _awaited(one: Awaitable[object]) -> object:
    return await one


async def _star(context: AllReduceContext, own: torch.Tensor) -> torch.Tensor:
    await context.send(context.aggregator, "up", own)
    return await context.take(context.aggregator, "down", own.numel())


async def _mesh(context: AllReduceContext, own: torch.Tensor) -> torch.Tensor:
    others = [peer for peer in context.peers if peer.node_id != context.node_id]
    await _together(*(context.send(peer, "all", own) for peer in others))
    total = torch.zeros_like(own)
    for peer in context.peers:
        total += own if peer.node_id == context.node_id else await context.take(peer, "all", own.numel())
    return total


async def _ring(context: AllReduceContext, own: torch.Tensor) -> torch.Tensor:
    count, place = len(context.peers), context.place
    before, behind = context.peers[place - 1], context.peers[(place + 1) % count]
    total = own.clone()
    chunks = torch.tensor_split(total, count)
    for turn in range(count - 1):
        sent, taken = chunks[(place - turn) % count], chunks[(place - turn - 1) % count]
        await context.send(behind, f"reduce-{turn}", sent)
        taken += await context.take(before, f"reduce-{turn}", taken.numel())
    for turn in range(count - 1):
        sent, taken = chunks[(place + 1 - turn) % count], chunks[(place - turn) % count]
        await context.send(behind, f"gather-{turn}", sent)
        taken.copy_(await context.take(before, f"gather-{turn}", taken.numel()))
    return total


async def _hierarchical(context: AllReduceContext, own: torch.Tensor) -> torch.Tensor:
    head, *members = next(group for group in context.groups if context.node_id in group)
    if head != context.node_id:
        await context.send(context.named(head), "up", own)
        return await context.take(context.named(head), "down", own.numel())
    total = own.clone()
    for member in members:
        total += await context.take(context.named(member), "up", own.numel())
    await context.send(context.aggregator, "up", total)
    total = await context.take(context.aggregator, "down", own.numel())
    await _together(*(context.send(context.named(member), "down", total) for member in members))
    return total


ALL_REDUCE: Final[dict[str, Callable[[AllReduceContext, torch.Tensor], Awaitable[torch.Tensor]]]] = {
    "star": _star,
    "mesh": _mesh,
    "ring": _ring,
    "hierarchical": _hierarchical,
}


def below(context: AllReduceContext, kind: str) -> list[Peer]:
    """Whose vectors come to the aggregator itself."""
    if kind == "star":
        return list(context.peers)
    return [context.named(group[0]) for group in context.groups] if kind == "hierarchical" else []


async def lead(context: AllReduceContext, sources: Sequence[Peer], steps: int, length: int) -> None:
    """The aggregator's part: so many times the sum of what comes, in the sources' order, back to all of them."""
    for step in range(steps if sources else 0):
        context.step = step
        total = torch.zeros(length)
        for peer in sources:
            total += await context.take(peer, "up", length)
        await _together(*(context.send(peer, "down", total) for peer in sources))

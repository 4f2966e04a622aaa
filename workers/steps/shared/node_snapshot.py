"""A cluster's nodes as steps see them: plain values that outlive the session they were read in."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.domain.sandboxes import AGENT_PORT, SandboxError
from api.store.tables import NodeRow
from workers.agent.peers.tokens import Caller
from workers.agent.protocol.common import Peer
from workers.agent_client import AgentClient, AgentUnreachableError, ClusterKeys
from workers.context import Context


@dataclass(frozen=True, slots=True)
class NodeSnapshot:
    """A node with a sandbox."""

    node_id: str
    cluster_id: str
    sandbox_id: str
    role: str
    status: str
    autonomy: float
    capabilities: tuple[str, ...]
    acts_as_aggregator: bool = False

    @classmethod
    def of(cls, row: NodeRow) -> "NodeSnapshot":
        if row.sandbox_id is None:
            raise ValueError(f"{row.id} has no sandbox")
        known = (row.id, row.cluster_id, row.sandbox_id, row.role, row.status, row.autonomy, tuple(row.capabilities))
        return cls(*known, row.acts_as_aggregator)

    @property
    def caller(self) -> Caller:
        """As its peers know it."""
        return Caller("aggregator" if self.acts_as_aggregator else self.role, self.node_id)


def running(session: Session, cluster_id: str) -> list[NodeSnapshot]:
    """The cluster's running nodes, oldest first."""
    rows = session.scalars(
        select(NodeRow)
        .where(NodeRow.cluster_id == cluster_id, NodeRow.status == "running")
        .order_by(NodeRow.created_at, NodeRow.id)
    )
    return [NodeSnapshot.of(row) for row in rows]


def aggregator_among(members: Sequence[NodeSnapshot]) -> NodeSnapshot | None:
    """The cluster's aggregator; where there is none, the worker that was promoted."""
    ranked = [member for member in members if member.role == "aggregator"]
    ranked += [member for member in members if member.acts_as_aggregator]
    return ranked[0] if ranked else None


def returns(session: Session, cluster_id: str, role: str) -> bool:
    """Whether no node of this role runs now, but a node's step is about to bring one back."""
    plays = NodeRow.role == role
    if role == "aggregator":
        plays = plays | NodeRow.acts_as_aggregator
    nodes = session.scalars(select(NodeRow).where(NodeRow.cluster_id == cluster_id, plays)).all()
    if any(node.status == "running" for node in nodes):
        return False
    return any(node.status == "provisioning" or (node.status == "lost" and node.due_at is not None) for node in nodes)


@asynccontextmanager
async def agent_of(context: Context, member: NodeSnapshot) -> AsyncIterator[AgentClient]:
    """The member's agent; AgentUnreachableError when its sandbox is gone."""
    try:
        endpoint = await context.provider.endpoint(member.sandbox_id, AGENT_PORT)
    except SandboxError as error:
        raise AgentUnreachableError(f"{member.node_id}: {error}") from error
    async with AgentClient(member.caller, endpoint, ClusterKeys(context.settings.secret_key, member.cluster_id)) as client:
        yield client


async def peers_of(context: Context, members: Sequence[NodeSnapshot]) -> dict[str, Peer]:
    """How the members' agents are reached from inside a sandbox; members whose sandbox is gone are left out."""
    endpoints = await asyncio.gather(
        *(context.provider.peer_endpoint(member.sandbox_id, AGENT_PORT) for member in members), return_exceptions=True
    )
    peers: dict[str, Peer] = {}
    for member, endpoint in zip(members, endpoints, strict=True):
        if isinstance(endpoint, SandboxError):
            continue
        if isinstance(endpoint, BaseException):
            raise endpoint
        peers[member.node_id] = Peer(node_id=member.node_id, url=endpoint.url, headers=dict(endpoint.headers), uds=endpoint.uds)
    return peers

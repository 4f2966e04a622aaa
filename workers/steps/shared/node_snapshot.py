"""A cluster's nodes as steps see them: plain values that stay valid after the session has ended."""

import asyncio
from collections.abc import Sequence
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
        """The caller as which its peers know the node."""
        return Caller("aggregator" if self.acts_as_aggregator else self.role, self.node_id)


def running(session: Session, cluster_id: str) -> list[NodeSnapshot]:
    """The cluster's running nodes, oldest first."""
    rows = session.scalars(
        select(NodeRow)
        .where(NodeRow.cluster_id == cluster_id, NodeRow.status == "running")
        .order_by(NodeRow.created_at, NodeRow.id)
    )
    return [NodeSnapshot.of(row) for row in rows]


def aggregator_among(nodes: Sequence[NodeSnapshot]) -> NodeSnapshot | None:
    """The cluster's aggregator. Without one, the worker that was promoted."""
    ranked = [node for node in nodes if node.role == "aggregator"]
    ranked += [node for node in nodes if node.acts_as_aggregator]
    return ranked[0] if ranked else None


def is_recovering(session: Session, cluster_id: str, role: str) -> bool:
    """Whether no node of this role runs now, and a step is about to bring one back."""
    plays = NodeRow.role == role
    if role == "aggregator":
        plays = plays | NodeRow.acts_as_aggregator
    nodes = session.scalars(select(NodeRow).where(NodeRow.cluster_id == cluster_id, plays)).all()
    if any(node.status == "running" for node in nodes):
        return False
    return any(node.status == "provisioning" or (node.status == "lost" and node.due_at is not None) for node in nodes)


async def agent_of(context: Context, node: NodeSnapshot) -> AgentClient:
    """Return a client of the node's agent. Call it in the loop of the context's network.

    Raises:
        AgentUnreachableError: the node's sandbox is gone.
    """
    try:
        endpoint = await context.provider.endpoint(node.sandbox_id, AGENT_PORT)
    except SandboxError as error:
        raise AgentUnreachableError(f"{node.node_id}: {error}") from error
    keys = ClusterKeys(context.settings.secret_key, node.cluster_id)
    return AgentClient(node.caller, endpoint, keys, context.network.connections)


async def peers_of(context: Context, nodes: Sequence[NodeSnapshot]) -> dict[str, Peer]:
    """Return how the nodes' agents are reached from inside a sandbox, by node id.

    Nodes whose sandbox is gone are left out.
    """
    endpoints = await asyncio.gather(
        *(context.provider.peer_endpoint(node.sandbox_id, AGENT_PORT) for node in nodes), return_exceptions=True
    )
    peers: dict[str, Peer] = {}
    for node, endpoint in zip(nodes, endpoints, strict=True):
        if isinstance(endpoint, SandboxError):
            continue
        if isinstance(endpoint, BaseException):
            raise endpoint
        peers[node.node_id] = Peer(node_id=node.node_id, url=endpoint.url, headers=dict(endpoint.headers), uds=endpoint.uds)
    return peers

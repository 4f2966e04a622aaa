"""Vectors between nodes, pushed over connections that stay open for a whole round."""

import asyncio
from contextlib import suppress

import httpx

from workers.agent.peers.client import PeerClient
from workers.agent.protocol.common import LinkUse, Peer
from workers.agent.runtime.errors import AgentError


class Inbox:
    """The vectors that arrived for one attempt.

    No node is more than one step ahead. So the inbox holds the vectors of two steps at most.
    """

    def __init__(self, attempt: str, limit: int) -> None:
        self.attempt = attempt
        self.limit = limit
        self.bytes = 0
        self._slots: dict[tuple[str, str], asyncio.Future[bytes]] = {}

    def _slot(self, tag: str, sender: str) -> "asyncio.Future[bytes]":
        return self._slots.setdefault((tag, sender), asyncio.get_running_loop().create_future())

    def put(self, tag: str, sender: str, body: bytes) -> None:
        slot = self._slot(tag, sender)
        if not slot.done():
            self.bytes += len(body)
            slot.set_result(body)

    async def take(self, tag: str, peer: Peer, within_s: float) -> bytes:
        """Wait for a peer's vector and remove it.

        Raises: AgentError `peer_slow` if it does not arrive in time.
        """
        try:
            async with asyncio.timeout(within_s):
                body = await asyncio.shield(self._slot(tag, peer.node_id))
        except TimeoutError:
            raise AgentError("peer_slow", f"{peer.node_id} sent nothing for {within_s:g} s", 502) from None
        del self._slots[tag, peer.node_id]
        return body


class PeerConnections:
    """One open connection to each node that this one sends to, with the traffic on it."""

    def __init__(self, peer_client: PeerClient, node_id: str, attempt: str, within_s: float) -> None:
        self._peers = peer_client
        self._node_id = node_id
        self._attempt = attempt
        self._within_s = within_s
        self._clients: dict[str, httpx.AsyncClient] = {}
        self.links: dict[str, LinkUse] = {}

    async def send(self, peer: Peer, tag: str, body: bytes) -> None:
        """Send a vector to a peer's inbox.

        Raises: AgentError `peer_lost` if it does not arrive, `peer_left` if the peer is no longer
        in this attempt.
        """
        client = self._clients.get(peer.node_id)
        if client is None:
            client = self._clients[peer.node_id] = self._peers.connection(peer, self._within_s)
        started = asyncio.get_running_loop().time()
        path = f"/synchronous/{self._attempt}/vectors/{tag}/{self._node_id}"
        try:
            async with asyncio.timeout(self._within_s):
                response = await self._put(client, path, body)
        except (httpx.HTTPError, TimeoutError) as error:
            raise AgentError("peer_lost", f"{peer.node_id} cannot be reached ({type(error).__name__})", 502) from None
        if response.status_code != httpx.codes.OK:
            raise AgentError("peer_left", f"{peer.node_id} is not in this attempt ({response.status_code})", 502)
        before = self.links.get(peer.node_id)
        self.links[peer.node_id] = LinkUse(
            source=self._node_id,
            target=peer.node_id,
            bytes=len(body) + (before.bytes if before else 0),
            seconds=asyncio.get_running_loop().time() - started + (before.seconds if before else 0.0),
        )

    @staticmethod
    async def _put(client: httpx.AsyncClient, path: str, body: bytes) -> httpx.Response:
        headers = {"Content-Type": "application/octet-stream"}
        try:
            return await client.put(path, content=body, headers=headers)
        except httpx.RemoteProtocolError:
            # The peer closed an idle connection just when it was used again. A vector that arrives
            # twice counts once.
            return await client.put(path, content=body, headers=headers)

    async def close(self) -> None:
        for client in self._clients.values():
            with suppress(Exception):
                await client.aclose()
        self._clients.clear()

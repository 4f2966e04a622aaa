"""The aggregator's calls to the workers of a synchronous round, outside the steps."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress

import httpx

from workers.agent.peers.client import PeerClient
from workers.agent.protocol.aggregation import DropWorkers
from workers.agent.protocol.common import LinkUse, Peer, StopResult
from workers.agent.protocol.synchronous import BeginAttempt, BeginAttemptResult, StartSteps
from workers.agent.runtime.errors import AgentError

_BEGIN_S = 120.0
_SHARE_S = 300.0
_CONTROL_S = 10.0
_ALIVE_S = 5.0


class Calls:
    """Every call has a timeout. A failed call raises AgentError."""

    def __init__(self, peer_client: PeerClient) -> None:
        self._peers = peer_client

    async def begin(self, peer: Peer, message: BeginAttempt) -> BeginAttemptResult:
        return await self._peers.ask(peer, "/synchronous/begin", message, BeginAttemptResult, within_s=_BEGIN_S)

    async def start_steps(self, peer: Peer, message: StartSteps) -> StopResult:
        return await self._peers.ask(peer, "/synchronous/go", message, StopResult, within_s=_CONTROL_S)

    async def alive(self, peer: Peer, attempt: str) -> bool:
        """Return whether a worker is still in an attempt; False if its agent was restarted.

        Raises: AgentError `peer_lost` if it does not answer.
        """
        try:
            async with asyncio.timeout(_ALIVE_S), self._peers.connection(peer, _ALIVE_S) as client:
                response = await client.get(f"/synchronous/{attempt}")
        except (httpx.HTTPError, TimeoutError) as error:
            raise AgentError("peer_lost", f"{peer.node_id} cannot be reached ({type(error).__name__})", 502) from None
        if response.status_code not in (httpx.codes.OK, httpx.codes.NOT_FOUND):
            raise AgentError("peer_lost", f"{peer.node_id} answered {response.status_code}", 502)
        return response.status_code == httpx.codes.OK

    async def send_share(self, peer: Peer, node_id: str, attempt: str, body: bytes) -> LinkUse:
        """Send a worker its samples. Return the transfer.

        Raises: AgentError `peer_lost` or `peer_failed`.
        """
        started = time.perf_counter()
        try:
            async with asyncio.timeout(_SHARE_S), self._peers.connection(peer, _SHARE_S) as client:
                response = await client.post(f"/synchronous/{attempt}/share", content=body)
        except (httpx.HTTPError, TimeoutError) as error:
            raise AgentError("peer_lost", f"{peer.node_id} cannot be reached ({type(error).__name__})", 502) from None
        if response.status_code != httpx.codes.OK:
            raise AgentError("peer_failed", f"{peer.node_id} answered {response.status_code}", 502)
        return LinkUse(source=node_id, target=peer.node_id, bytes=len(body), seconds=time.perf_counter() - started)

    async def stop(self, peers: Sequence[Peer], training_id: str) -> None:
        """Stop the training's round at all workers that can be reached."""

        async def stop(peer: Peer) -> None:
            with suppress(AgentError):
                empty = DropWorkers(node_ids=[])
                await self._peers.ask(peer, f"/trainings/{training_id}/stop", empty, StopResult, within_s=_CONTROL_S)

        await asyncio.gather(*map(stop, peers))

"""What the aggregator says to the workers of a synchronous round, outside the steps."""

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
_TELL_S = 10.0
_ALIVE_S = 5.0


class Calls:
    """Every call has a timeout; what fails is an AgentError."""

    def __init__(self, exchange: PeerClient) -> None:
        self._peers = exchange

    async def begin(self, peer: Peer, message: BeginAttempt) -> BeginAttemptResult:
        return await self._peers.ask(peer, "/synchronous/begin", message, BeginAttemptResult, within_s=_BEGIN_S)

    async def go(self, peer: Peer, message: StartSteps) -> StopResult:
        return await self._peers.ask(peer, "/synchronous/go", message, StopResult, within_s=_TELL_S)

    async def alive(self, peer: Peer, attempt: str) -> bool:
        """Whether a worker is still in an attempt: False where its agent was restarted. AgentError where it does not answer."""
        try:
            async with asyncio.timeout(_ALIVE_S), self._peers.connection(peer, _ALIVE_S) as client:
                response = await client.get(f"/synchronous/{attempt}")
        except (httpx.HTTPError, TimeoutError) as error:
            raise AgentError("peer_lost", f"{peer.node_id} cannot be reached ({type(error).__name__})", 502) from None
        if response.status_code not in (httpx.codes.OK, httpx.codes.NOT_FOUND):
            raise AgentError("peer_lost", f"{peer.node_id} answered {response.status_code}", 502)
        return response.status_code == httpx.codes.OK

    async def share(self, peer: Peer, node_id: str, attempt: str, body: bytes) -> LinkUse:
        """Send a worker its samples; what that took."""
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
        """Tell them to give up their round, as far as they hear it."""

        async def one(peer: Peer) -> None:
            with suppress(AgentError):
                nobody = DropWorkers(node_ids=[])
                await self._peers.ask(peer, f"/trainings/{training_id}/stop", nobody, StopResult, within_s=_TELL_S)

        await asyncio.gather(*map(one, peers))

"""The aggregator's side of an exchange over the workers: their result is taken, or the exchange is given up for the star."""

import asyncio
from collections import Counter
from pathlib import Path

from workers.agent.aggregator.consensus.distance import consensus_distance
from workers.agent.aggregator.round_state import RoundState
from workers.agent.peers.client import PeerClient
from workers.agent.protocol.aggregation import AggregateRound
from workers.agent.protocol.common import LinkUse, Peer, StopResult
from workers.agent.protocol.exchange import FallBackToStar
from workers.agent.runtime.errors import AgentError
from workers.agent.runtime.logs import Log
from workers.agent.storage import tensors
from workers.agent.storage.model_store import ModelStore
from workers.agent.strategies.fedavg import FedAvg
from workers.agent.updates.validation import read_sound_state

_TELL_PAUSES_S = (0.0, 1.0, 3.0)


class PeerExchangeCoordinator:
    def __init__(self, exchange: PeerClient, store: ModelStore, log: Log) -> None:
        self._peers = exchange
        self._store = store
        self._log = log
        self._telling: set[asyncio.Task[None]] = set()

    def fall_back(self, found: RoundState, reason: str) -> None:
        """Give the exchange up: every worker that is left sends its own update here. Called with the round's turn held."""
        found.exchanging = False
        found.exchanged.clear()
        found.links.clear()
        found.mixed.clear()
        found.mean = FedAvg()
        found.waiting = {peer.node_id for peer in found.request.workers} - found.dropped
        found.watched.change(received=[], bytes_received=None, fallback=reason if found.request.path else None)
        self._log("fell_back", round=found.report.round, reason=reason)
        for peer in found.request.workers:
            if peer.node_id in found.waiting:
                task = asyncio.create_task(self._tell(found, peer, reason))
                self._telling.add(task)
                task.add_done_callback(self._telling.discard)

    async def _tell(self, found: RoundState, peer: Peer, reason: str) -> None:
        path = f"/trainings/{found.report.training_id}/rounds/{found.report.round}/fallback"
        for pause in _TELL_PAUSES_S:
            await asyncio.sleep(pause)
            try:
                await self._peers.ask(peer, path, FallBackToStar(reason=reason), StopResult, within_s=10)
            except AgentError as error:
                self._log("not_told", node=peer.node_id, problem=error.code)
            else:
                return

    async def take_means(self, found: RoundState) -> None:
        """The exchange's result: one worker's copy, or the mean of every group from its head."""
        request = found.request
        peers = {peer.node_id: peer for peer in request.workers}
        means = {node_id: body for node_id, body in found.exchanged.items() if body.digest is not None}
        if request.path is None or not means:
            raise AgentError("no_mean", "no worker has a mean")
        if request.path.kind in ("mesh", "ring"):
            first = min(means)
            means = {first: means[first]}
        # Both of a pair have the same model: it is taken once and counts for both.
        taken = {body.digest or "": node_id for node_id, body in sorted(means.items(), reverse=True)}
        weights = Counter[str]()
        for body in means.values():
            weights[body.digest or ""] += body.samples
        if request.path.kind == "gossip":
            found.mixed = dict(weights)
        for digest, node_id in sorted(taken.items(), key=lambda item: item[1]):
            target = self._store.updates(request.training_id) / f"{digest}.safetensors"
            size, seconds = await self._peers.fetch_model(peers[node_id], digest, target)
            state = await asyncio.to_thread(self._sound, request, target)
            found.mean.add(state, weights[digest])
            found.links.append(LinkUse(source=node_id, target=request.self_peer.node_id, bytes=size, seconds=seconds))
            found.watched.change(bytes_received=(found.report.bytes_received or 0) + size)

    def distance(self, found: RoundState, digest: str) -> float | None:
        """Of the workers' models from their mean; None without gossip."""
        if not found.mixed:
            return None
        held = self._store.updates(found.request.training_id)
        models = [(held / f"{own}.safetensors", count) for own, count in found.mixed.items()]
        return consensus_distance(models, self._store.require(digest))

    def _sound(self, request: AggregateRound, path: Path) -> tensors.State:
        return read_sound_state(path, tensors.read(self._store.require(request.base_digest)))

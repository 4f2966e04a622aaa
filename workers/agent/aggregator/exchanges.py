"""The aggregator's side of a peer exchange: take its result, or fall back to the star."""

import asyncio
from collections import Counter
from pathlib import Path

from workers.agent.aggregator.consensus.distance import consensus_distance
from workers.agent.aggregator.round_state import RoundState
from workers.agent.context import AgentContext
from workers.agent.protocol.aggregation import AggregateRound
from workers.agent.protocol.common import LinkUse, Peer, StopResult
from workers.agent.protocol.exchange import FallBackToStar
from workers.agent.runtime.errors import AgentError
from workers.agent.runtime.retries import retry
from workers.agent.storage import tensors
from workers.agent.updates.validation import read_sound_state

_NOTIFY_PAUSES_S = (1.0, 3.0)
_NOTIFY_WITHIN_S = 10


class PeerExchangeCoordinator:
    def __init__(self, context: AgentContext) -> None:
        self._peers = context.peers
        self._store = context.store
        self._log = context.log
        self._notifications: set[asyncio.Task[None]] = set()

    def fall_back(self, round_state: RoundState, reason: str) -> None:
        """End the exchange. Every worker that is left then sends its own update here.

        Call it with the round's lock held.
        """
        round_state.fall_back(reason)
        self._log("fell_back", round=round_state.number, reason=reason)
        for peer in round_state.request.workers:
            if peer.node_id in round_state.waiting:
                task = asyncio.create_task(self._notify(round_state.request, peer, reason))
                self._notifications.add(task)
                task.add_done_callback(self._notifications.discard)

    async def _notify(self, request: AggregateRound, peer: Peer, reason: str) -> None:
        path = f"/trainings/{request.training_id}/rounds/{request.round}/fallback"
        message = FallBackToStar(reason=reason)

        def log(error: AgentError, _: float = 0.0) -> None:
            self._log("not_told", node=peer.node_id, problem=error.code)

        try:
            await retry(
                lambda: self._peers.ask(peer, path, message, StopResult, within_s=_NOTIFY_WITHIN_S), _NOTIFY_PAUSES_S, log
            )
        except AgentError as error:
            log(error)

    async def collect_means(self, round_state: RoundState) -> None:
        """Fetch the exchange's result: one worker's copy, or the mean of every group.

        Raises: AgentError `no_mean` if no worker has one, or the error of a failed download.
        """
        request = round_state.request
        peers = {peer.node_id: peer for peer in request.workers}
        means = {node_id: result for node_id, result in round_state.exchange_results.items() if result.digest is not None}
        if request.path is None or not means:
            raise AgentError("no_mean", "no worker has a mean")
        if request.path.kind in ("mesh", "ring"):
            first = min(means)
            means = {first: means[first]}
        # Both workers of a pair have the same model: fetch it once, and count it for both.
        sources = {result.digest or "": node_id for node_id, result in sorted(means.items(), reverse=True)}
        weights = Counter[str]()
        for result in means.values():
            weights[result.digest or ""] += result.samples
        if request.path.kind == "gossip":
            round_state.record_group_models(weights)
        for digest, node_id in sorted(sources.items(), key=lambda item: item[1]):
            target = self._store.updates(request.training_id) / f"{digest}.safetensors"
            size, seconds = await self._peers.fetch_model(peers[node_id], digest, target)
            model = await asyncio.to_thread(self._checked, request, target)
            link = LinkUse(source=node_id, target=request.self_peer.node_id, bytes=size, seconds=seconds)
            round_state.add_group_mean(model, weights[digest], link)

    def distance(self, round_state: RoundState, digest: str) -> float | None:
        """Return how far the workers' models are from their mean; None without gossip."""
        if not round_state.group_models:
            return None
        folder = self._store.updates(round_state.training_id)
        models = [(folder / f"{model}.safetensors", count) for model, count in round_state.group_models.items()]
        return consensus_distance(models, self._store.require(digest))

    def _checked(self, request: AggregateRound, path: Path) -> tensors.State:
        return read_sound_state(path, tensors.read(self._store.require(request.base_digest)))

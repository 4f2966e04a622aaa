"""A training's first global model, made or found again."""

import asyncio

from workers.agent.modeling.cache import ModelCache
from workers.agent.modeling.freezing import frozen_names
from workers.agent.peers.client import PeerClient
from workers.agent.privacy import per_example
from workers.agent.protocol.training import InitTraining, InitTrainingResult
from workers.agent.runtime.errors import AgentError
from workers.agent.runtime.logs import Log
from workers.agent.storage import tensors
from workers.agent.storage.model_store import ModelStore


class FirstModel:
    def __init__(self, exchange: PeerClient, store: ModelStore, cache: ModelCache, log: Log) -> None:
        self._peers = exchange
        self._store = store
        self._cache = cache
        self._log = log

    async def ready(self, request: InitTraining) -> InitTrainingResult:
        """Publish the first global model, or find the last one here or at one of the sources."""
        if request.base_digest is not None:
            await self._restore(request)
        return await asyncio.to_thread(self._init, request)

    def _init(self, request: InitTraining) -> InitTrainingResult:
        with self._cache.lock:
            if request.base_digest is None:
                network = self._cache.rebuild_network(request.model)
                saved = self._store.save(request.training_id, tensors.state_of(network.model))
                digest, size = saved.digest, saved.bytes
            else:
                digest, path = request.base_digest, self._store.require(request.base_digest)
                network, size = self._cache.load(request.model, path), path.stat().st_size
            frozen_names(network.model, request.freeze_layers)
            if request.private:
                per_example.require_support(network)
            ready = InitTrainingResult(
                digest=digest, parameters=sum(item.numel() for item in network.model.parameters()), bytes=size
            )
            try:
                samples = None
                if request.validation:
                    samples = len(self._cache.samples(request.model, request.validation, request.freeze_layers))
            except AgentError as error:
                problem = None if error.code == "no_match" else error.problem
                return ready.model_copy(update={"problem": problem})
        return ready.model_copy(update={"validation_samples": samples})

    async def _restore(self, request: InitTraining) -> None:
        digest = request.base_digest or ""
        for peer in request.sources:
            if self._store.find(digest) is not None:
                return
            try:
                await self._peers.fetch_model(peer, digest, self._store.path(request.training_id, digest))
            except AgentError as error:
                self._log("no_copy", node=peer.node_id, problem=error.code)
        self._store.require(digest)

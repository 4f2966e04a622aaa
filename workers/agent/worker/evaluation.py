"""A worker as a judge: models of others, measured on its own held-out samples."""

import asyncio
import time

import numpy as np
import torch

from workers.agent.aggregator.consensus.effects import accuracy_of, effect
from workers.agent.modeling.cache import ModelCache
from workers.agent.modeling.held_out_metrics import measure, probabilities
from workers.agent.peers.client import PeerClient
from workers.agent.peers.model_fetcher import ModelFetcher
from workers.agent.protocol.consensus import ScoreResult, ScoreUpdates
from workers.agent.protocol.inference import EvaluateModel, EvaluationResult
from workers.agent.storage.model_store import ModelStore


class Evaluator:
    def __init__(
        self, node_id: str, exchange: PeerClient, store: ModelStore, cache: ModelCache, model_fetcher: ModelFetcher
    ) -> None:
        self._node_id = node_id
        self._peers = exchange
        self._store = store
        self._cache = cache
        self._model_fetcher = model_fetcher

    async def evaluate(self, request: EvaluateModel) -> EvaluationResult:
        """Mean cross-entropy (nats) and accuracy of a global model on this node's data."""
        await self._model_fetcher.ensure_model(request.training_id, request.digest, request.source)
        return await asyncio.to_thread(self._evaluate, request)

    def _evaluate(self, request: EvaluateModel) -> EvaluationResult:
        started = time.perf_counter()
        with self._cache.lock:
            if request.held_out:
                samples = self._cache.shard(request.model, request.dataset).held_out
            else:
                samples = self._cache.samples(request.model, request.dataset)
            found = measure(self._cache.load(request.model, self._store.require(request.digest)), samples)
            if request.held_out:
                self._cache.store_metrics(request.digest, found)
        return EvaluationResult(
            node_id=self._node_id,
            digest=request.digest,
            samples=len(samples),
            loss=found.loss,
            accuracy=found.accuracy,
            seconds=time.perf_counter() - started,
        )

    async def judge(self, request: ScoreUpdates) -> ScoreResult:
        """Accuracy of the base and of each candidate on this worker's own held-out samples."""
        await self._model_fetcher.ensure_model(request.training_id, request.base_digest, request.source)
        folder = self._store.updates(request.training_id)
        try:
            for digest in request.candidates.values():
                name = self._store.path(request.training_id, digest).name
                await self._peers.fetch_model(request.source, digest, folder / name)
            return await asyncio.to_thread(self._evaluator, request)
        finally:
            self._store.clear_updates(request.training_id)

    def _evaluator(self, request: ScoreUpdates) -> ScoreResult:
        with self._cache.lock:
            samples = self._cache.shard(request.model, request.dataset).held_out.first(request.limit)

            def seen(digest: str) -> torch.Tensor:
                return probabilities(self._cache.load(request.model, self._store.require(digest)), samples)

            targets = samples.targets(np.arange(len(samples)))
            base = seen(request.base_digest)
            found = {node_id: seen(digest) for node_id, digest in request.candidates.items()}
            return ScoreResult(
                node_id=self._node_id,
                samples=len(samples),
                base=accuracy_of(base, targets),
                candidates={node_id: accuracy_of(table, targets) for node_id, table in found.items()},
                effects={node_id: effect(base, table, targets) for node_id, table in found.items()},
            )

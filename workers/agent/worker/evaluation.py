"""A worker measures models of others on its own samples."""

import asyncio
import time

import numpy as np
import torch

from workers.agent.aggregator.consensus.effects import accuracy_of, effect
from workers.agent.context import AgentContext
from workers.agent.modeling.held_out_metrics import measure, probabilities
from workers.agent.protocol.consensus import ScoreResult, ScoreUpdates
from workers.agent.protocol.inference import EvaluateModel, EvaluationResult


class Evaluator:
    def __init__(self, context: AgentContext) -> None:
        self._node_id = context.node_id
        self._peers = context.peers
        self._store = context.store
        self._cache = context.cache
        self._fetcher = context.fetcher

    async def evaluate(self, request: EvaluateModel) -> EvaluationResult:
        """Measure mean cross-entropy (nats) and accuracy of a global model on this node's data."""
        await self._fetcher.ensure_model(request.training_id, request.digest, request.source)
        return await asyncio.to_thread(self._evaluate, request)

    def _evaluate(self, request: EvaluateModel) -> EvaluationResult:
        started = time.perf_counter()
        with self._cache.lock:
            if request.held_out:
                samples = self._cache.shard(request.model, request.dataset, data_format=request.data_format).held_out
            else:
                samples = self._cache.samples(request.model, request.dataset, data_format=request.data_format)
            metrics = measure(self._cache.load(request.model, self._store.require(request.digest)), samples)
            if request.held_out:
                self._cache.store_metrics(request.digest, metrics)
        return EvaluationResult(
            node_id=self._node_id,
            digest=request.digest,
            samples=len(samples),
            loss=metrics.loss,
            accuracy=metrics.accuracy,
            seconds=time.perf_counter() - started,
        )

    async def score(self, request: ScoreUpdates) -> ScoreResult:
        """Measure the base and each candidate on this worker's own held-out samples."""
        await self._fetcher.ensure_model(request.training_id, request.base_digest, request.source)
        folder = self._store.updates(request.training_id)
        try:
            for digest in request.candidates.values():
                name = self._store.path(request.training_id, digest).name
                await self._peers.fetch_model(request.source, digest, folder / name)
            return await asyncio.to_thread(self._score, request)
        finally:
            self._store.clear_updates(request.training_id)

    def _score(self, request: ScoreUpdates) -> ScoreResult:
        with self._cache.lock:
            shard = self._cache.shard(request.model, request.dataset, data_format=request.data_format)
            samples = shard.held_out.first(request.limit)

            def probabilities_of(digest: str) -> torch.Tensor:
                return probabilities(self._cache.load(request.model, self._store.require(digest)), samples)

            targets = samples.targets(np.arange(len(samples)))
            base = probabilities_of(request.base_digest)
            tables = {node_id: probabilities_of(digest) for node_id, digest in request.candidates.items()}
            return ScoreResult(
                node_id=self._node_id,
                samples=len(samples),
                base=accuracy_of(base, targets),
                candidates={node_id: accuracy_of(table, targets) for node_id, table in tables.items()},
                effects={node_id: effect(base, table, targets) for node_id, table in tables.items()},
            )

"""A worker's part in a prediction: class probabilities for texts.

They come from the global model, or from the worker's own last local model.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path

import torch

from workers.agent.datasets.batches import EncodedShard, EncodedTexts
from workers.agent.modeling import calibration
from workers.agent.modeling.cache import ModelCache
from workers.agent.modeling.held_out_metrics import HeldOutMetrics, measure, probabilities
from workers.agent.modeling.network import Network
from workers.agent.peers.model_fetcher import ModelFetcher
from workers.agent.protocol.inference import CalibrationSums, InferenceResult, InferTexts
from workers.agent.runtime.errors import AgentError
from workers.agent.serving import text_counts
from workers.agent.serving.graph_cache import GraphCache, engine_name
from workers.agent.serving.text_counts import SeenWords
from workers.agent.storage import tensors
from workers.agent.storage.model_store import LOCAL_GRAPH, ModelStore
from workers.agent.training.local_round import LOCAL_MODEL


@dataclass(frozen=True, slots=True)
class _ServedModel:
    """The model that answers: its file, its digest, and the name of its graph."""

    path: Path
    digest: str
    graph: str


class InferenceWorker:
    """Answers `InferTexts` requests."""

    def __init__(
        self, node_id: str, store: ModelStore, cache: ModelCache, graphs: GraphCache, model_fetcher: ModelFetcher
    ) -> None:
        self._node_id = node_id
        self._store = store
        self._cache = cache
        self._graphs = graphs
        self._model_fetcher = model_fetcher
        # (path, modification time and inode of the own model's file, its digest), when last hashed.
        self._hashed: tuple[tuple[str, int, int], str] | None = None
        # (digest of a global model, its words), as last read.
        self._seen: tuple[str, SeenWords | None] | None = None

    async def infer(self, request: InferTexts) -> InferenceResult:
        """Return the probabilities, and the metrics that the request asks for.

        Raises:
            AgentError: `unknown_model`, and the errors of reading a dataset when weights are
            requested.
        """
        await self._model_fetcher.ensure_model(request.training_id, request.digest, request.source)
        return await asyncio.to_thread(self._infer, request)

    def _infer(self, request: InferTexts) -> InferenceResult:
        with self._cache.lock:
            served = self._served(request)
            network = self._cache.network(request.model)
            texts = network.encoded(request.texts)
            counts = text_counts.count(network, texts, self._seen_words(request, network))
            table, engine = self._probabilities(request, served, texts)
            weight = self._metrics(request, served).accuracy if request.weigh else None
            calibration_sums = self._calibration_sums(request, served) if request.calibrate else None
        temperature = None
        if request.local and calibration_sums is not None:
            temperature, calibration_sums = calibration.fit([calibration_sums], len(request.model.labels)), None
        return InferenceResult(
            node_id=self._node_id,
            probabilities=calibration.apply_temperature(table, temperature).tolist(),
            weight=weight,
            temperature=temperature,
            calibration_sums=calibration_sums,
            engine=engine,
            counts=counts,
        )

    def _seen_words(self, request: InferTexts, network: Network) -> SeenWords | None:
        """Return the words of the global model, which has those of all workers."""
        if not request.count_unseen or network.tokenizer is not None:
            return None
        if self._seen is None or self._seen[0] != request.digest:
            self._seen = (request.digest, SeenWords.of(self._store.require(request.digest), network))
        return self._seen[1]

    def _served(self, request: InferTexts) -> _ServedModel:
        local_model = self._store.folder(request.training_id) / LOCAL_MODEL
        if request.local and local_model.exists():
            digest = self._digest(local_model)
            return _ServedModel(local_model, digest, f"{LOCAL_GRAPH}{digest}")
        return _ServedModel(self._store.require(request.digest), request.digest, request.digest)

    def _digest(self, path: Path) -> str:
        stat = path.stat()
        stamp = (str(path), stat.st_mtime_ns, stat.st_ino)
        if self._hashed is None or self._hashed[0] != stamp:
            self._hashed = (stamp, tensors.file_digest(path))
        return self._hashed[1]

    def _probabilities(self, request: InferTexts, served: _ServedModel, texts: EncodedTexts) -> tuple[torch.Tensor, str]:
        if request.engine == "torch":
            return probabilities(self._load(request, served), texts), "torch"
        graph = self._graphs.get(
            served.graph,
            self._store.folder(request.training_id),
            lambda: self._load(request, served),
            lambda: self._held_out(request),
        )
        return graph.probabilities(texts, len(request.model.labels)), engine_name(graph)

    def _load(self, request: InferTexts, served: _ServedModel) -> Network:
        return self._cache.load(request.model, served.path)

    def _held_out(self, request: InferTexts) -> EncodedTexts | None:
        """Return None when this worker's samples cannot be read any more."""
        try:
            return self._shard(request).held_out if request.dataset else None
        except AgentError:
            return None

    def _calibration_sums(self, request: InferTexts, served: _ServedModel) -> CalibrationSums | None:
        try:
            calibration_sums = self._metrics(request, served).calibration_sums
        except AgentError:
            return None
        return calibration_sums if calibration.is_valid(calibration_sums) else None

    def _metrics(self, request: InferTexts, served: _ServedModel) -> HeldOutMetrics:
        """Return the metrics of a model. They are measured once for each model."""
        metrics = self._cache.metrics_of(served.digest)
        if metrics is None:
            network = self._load(request, served)
            metrics = measure(network, self._shard(request).held_out)
            self._cache.store_metrics(served.digest, metrics)
        return metrics

    def _shard(self, request: InferTexts) -> EncodedShard:
        return self._cache.shard(request.model, request.dataset or "", data_format=request.data_format)

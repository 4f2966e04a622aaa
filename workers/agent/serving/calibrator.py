"""The temperature of a global model, found by the aggregator.

It uses the validation file, or else the sums of the workers.
"""

import asyncio

from workers.agent.datasets.batches import EncodedTexts
from workers.agent.modeling import calibration
from workers.agent.modeling.cache import ModelCache
from workers.agent.modeling.held_out_metrics import measure
from workers.agent.peers.client import PeerClient
from workers.agent.protocol.common import Peer
from workers.agent.protocol.exports import ExportModel
from workers.agent.protocol.inference import CalibrationSums, InferenceResult, InferTexts, PredictTexts
from workers.agent.runtime.errors import AgentError
from workers.agent.storage.model_store import ModelStore

_WITHIN_S = 120.0
_MOST_SAMPLES = 1000


class Calibrator:
    """Measures calibration sums and fits temperatures."""

    def __init__(self, exchange: PeerClient, store: ModelStore, cache: ModelCache) -> None:
        self._peers = exchange
        self._store = store
        self._cache = cache

    def calibration_sums(self, request: ExportModel | PredictTexts) -> CalibrationSums | None:
        """Return the sums on the validation file; None without a usable file.

        A model that this agent has validated in a round is not measured again.
        """
        digest = request.digest
        metrics = self._cache.metrics_of(digest)
        if metrics is None and request.validation is not None:
            with self._cache.lock:
                samples = self._validation(request, request.validation)
                if samples is None:
                    return None
                metrics = measure(self._cache.load(request.model, self._store.require(digest)), samples.first(_MOST_SAMPLES))
                self._cache.store_metrics(digest, metrics)
        if metrics is None or not calibration.is_valid(metrics.calibration_sums):
            return None
        return metrics.calibration_sums

    def _validation(self, request: ExportModel | PredictTexts, path: str) -> EncodedTexts | None:
        """Return the samples of the validation file; None when they cannot be used.

        The caller holds the cache's lock.
        """
        try:
            return self._cache.samples(request.model, path, data_format=request.data_format)
        except AgentError:
            return None

    async def temperature(self, request: ExportModel) -> float | None:
        """Return the temperature of a global model; None without held-out data.

        Without a validation file it uses the workers' held-out samples.
        """
        classes = len(request.model.labels)
        sums = await asyncio.to_thread(self.calibration_sums, request)
        if sums is not None:
            return calibration.fit([sums], classes)
        workers_sums = await asyncio.gather(*(self._ask(request, peer) for peer in request.workers))
        return calibration.fit([sums for sums in workers_sums if sums is not None], classes)

    async def _ask(self, request: ExportModel, peer: Peer) -> CalibrationSums | None:
        if request.self_peer is None or request.dataset is None:
            return None
        question = InferTexts(
            training_id=request.training_id,
            model=request.model,
            digest=request.digest,
            source=self._peers.introduce(request.self_peer, peer),
            texts=[],
            dataset=request.dataset,
            data_format=request.data_format,
            calibrate=True,
        )
        try:
            return (await self._peers.ask(peer, "/inferences", question, InferenceResult, within_s=_WITHIN_S)).calibration_sums
        except AgentError:
            return None

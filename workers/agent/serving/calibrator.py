"""The aggregator's part in calibration: a global model's temperature, from its validation file or from the workers' sums."""

import asyncio

from workers.agent.datasets.batches import EncodedTexts
from workers.agent.modeling import calibration
from workers.agent.modeling.cache import ModelCache
from workers.agent.modeling.held_out_metrics import measure
from workers.agent.peers.client import PeerClient
from workers.agent.protocol.common import ModelSpec, Peer
from workers.agent.protocol.exports import ExportModel
from workers.agent.protocol.inference import CalibrationSums, InferenceResult, InferTexts
from workers.agent.runtime.errors import AgentError
from workers.agent.storage.model_store import ModelStore

_WITHIN_S = 120.0
_LOOK_AT = 1000


class Calibrator:
    def __init__(self, exchange: PeerClient, store: ModelStore, cache: ModelCache) -> None:
        self._peers = exchange
        self._store = store
        self._cache = cache

    def calibration_sums(self, model: ModelSpec, digest: str, validation: str | None) -> CalibrationSums | None:
        """From the validation file, None where there is none. What the round's own validation has measured is kept: only a
        model that this agent has not validated is looked at here."""
        found = self._cache.metrics_of(digest)
        if found is None and validation is not None:
            with self._cache.lock:
                samples = self.validation(model, validation)
                if samples is None:
                    return None
                found = measure(self._cache.load(model, self._store.require(digest)), samples.first(_LOOK_AT))
                self._cache.store_metrics(digest, found)
        return found.calibration_sums if found is not None and calibration.is_valid(found.calibration_sums) else None

    def validation(self, model: ModelSpec, path: str) -> EncodedTexts | None:
        """The validation file's samples, unless there are none that can be used. Call it with the shelf's lock held."""
        try:
            return self._cache.samples(model, path)
        except AgentError:
            return None

    async def temperature(self, request: ExportModel) -> float | None:
        """A global model's, from the workers' held-out samples where no validation file is here."""
        own = await asyncio.to_thread(self.calibration_sums, request.model, request.digest, request.validation)
        if own is not None:
            return calibration.fit([own], len(request.model.labels))
        curves = await asyncio.gather(*(self._asked(request, peer) for peer in request.workers))
        return calibration.fit(
            [calibration_sums for calibration_sums in curves if calibration_sums is not None], len(request.model.labels)
        )

    async def _asked(self, request: ExportModel, peer: Peer) -> CalibrationSums | None:
        if request.self_peer is None or request.dataset is None:
            return None
        question = InferTexts(
            training_id=request.training_id,
            model=request.model,
            digest=request.digest,
            source=self._peers.introduce(request.self_peer, peer),
            texts=[],
            dataset=request.dataset,
            calibrate=True,
        )
        try:
            return (await self._peers.ask(peer, "/inferences", question, InferenceResult, within_s=_WITHIN_S)).calibration_sums
        except AgentError:
            return None

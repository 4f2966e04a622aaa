"""The aggregator's part in calibration: a global model's temperature, from its validation file or from the workers' sums."""

import asyncio

from workers.agent.datasets.batches import Encoded
from workers.agent.modeling import calibration
from workers.agent.modeling.cache import Shelf
from workers.agent.modeling.evaluate import measure
from workers.agent.peers.client import Exchange
from workers.agent.protocol.common import ModelSpec, Peer
from workers.agent.protocol.exports import Export
from workers.agent.protocol.inference import Curve, Infer, Inference
from workers.agent.runtime.errors import AgentError
from workers.agent.storage.model_store import Store

_WITHIN_S = 120.0
_LOOK_AT = 1000


class Calibrator:
    def __init__(self, exchange: Exchange, store: Store, shelf: Shelf) -> None:
        self._exchange = exchange
        self._store = store
        self._shelf = shelf

    def curve(self, model: ModelSpec, digest: str, validation: str | None) -> Curve | None:
        """From the validation file, None where there is none. What the round's own validation has measured is kept: only a
        model that this agent has not validated is looked at here."""
        found = self._shelf.measured(digest)
        if found is None and validation is not None:
            with self._shelf.lock:
                samples = self.validation(model, validation)
                if samples is None:
                    return None
                found = measure(self._shelf.loaded(model, self._store.need(digest)), samples.first(_LOOK_AT))
                self._shelf.remember(digest, found)
        return found.curve if found is not None and calibration.is_sound(found.curve) else None

    def validation(self, model: ModelSpec, path: str) -> Encoded | None:
        """The validation file's samples, unless there are none that can be used. Call it with the shelf's lock held."""
        try:
            return self._shelf.samples(model, path)
        except AgentError:
            return None

    async def temperature(self, request: Export) -> float | None:
        """A global model's, from the workers' held-out samples where no validation file is here."""
        own = await asyncio.to_thread(self.curve, request.model, request.digest, request.validation)
        if own is not None:
            return calibration.fit([own], len(request.model.labels))
        curves = await asyncio.gather(*(self._asked(request, peer) for peer in request.workers))
        return calibration.fit([curve for curve in curves if curve is not None], len(request.model.labels))

    async def _asked(self, request: Export, peer: Peer) -> Curve | None:
        if request.self_peer is None or request.dataset is None:
            return None
        question = Infer(
            training_id=request.training_id,
            model=request.model,
            digest=request.digest,
            source=self._exchange.introduce(request.self_peer, peer),
            texts=[],
            dataset=request.dataset,
            calibrate=True,
        )
        try:
            return (await self._exchange.ask(peer, "/inferences", question, Inference, within_s=_WITHIN_S)).curve
        except AgentError:
            return None

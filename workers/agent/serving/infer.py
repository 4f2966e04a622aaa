"""A worker's part in a prediction: probabilities for some texts, from the global model or from its own last local one."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

import torch

from workers.agent.datasets.batches import Encoded
from workers.agent.modeling import calibration
from workers.agent.modeling.cache import Shelf
from workers.agent.modeling.evaluate import Measured, measure, probabilities
from workers.agent.modeling.network import Network
from workers.agent.peers.model_fetcher import Copies
from workers.agent.protocol.inference import Curve, Infer, Inference
from workers.agent.runtime.errors import AgentError
from workers.agent.serving.graph_cache import Graphs, engine_of
from workers.agent.storage import tensors
from workers.agent.storage.model_store import LOCAL_GRAPH, Store
from workers.agent.training.local_round import LOCAL_MODEL


@dataclass(frozen=True, slots=True)
class _Served:
    """The model that is asked: its file, its digest, and the name of its graphs."""

    path: Path
    digest: str
    graph: str


class Inferrer:
    def __init__(self, node_id: str, store: Store, shelf: Shelf, graphs: Graphs, copies: Copies) -> None:
        self._node_id = node_id
        self._store = store
        self._shelf = shelf
        self._graphs = graphs
        self._copies = copies
        # Of the own model's file as it was when it was last hashed.
        self._own: tuple[tuple[str, int, int], str] | None = None

    async def infer(self, request: Infer) -> Inference:
        """What is asked for of these texts; `unknown_model`, and what reading a dataset raises that weights are wanted of."""
        await self._copies.need(request.training_id, request.digest, request.source)
        return await asyncio.to_thread(self._infer, request)

    def _infer(self, request: Infer) -> Inference:
        with self._shelf.lock:
            served = self._served(request)
            found, engine = self._table(request, served)
            weight = self._measured(request, served).accuracy if request.weigh else None
            curve = self._curve(request, served) if request.calibrate else None
        temperature = None
        if request.local and curve is not None:
            temperature, curve = calibration.fit([curve], len(request.model.labels)), None
        return Inference(
            node_id=self._node_id,
            probabilities=calibration.tempered(found, temperature).tolist(),
            weight=weight,
            temperature=temperature,
            curve=curve,
            engine=engine,
        )

    def _served(self, request: Infer) -> _Served:
        own = self._store.folder(request.training_id) / LOCAL_MODEL
        if request.local and own.exists():
            digest = self._digest(own)
            return _Served(own, digest, f"{LOCAL_GRAPH}{digest}")
        return _Served(self._store.need(request.digest), request.digest, request.digest)

    def _digest(self, path: Path) -> str:
        stat = path.stat()
        stamp = (str(path), stat.st_mtime_ns, stat.st_ino)
        if self._own is None or self._own[0] != stamp:
            self._own = (stamp, tensors.file_digest(path))
        return self._own[1]

    def _table(self, request: Infer, served: _Served) -> tuple[torch.Tensor, str]:
        texts = self._shelf.network(request.model).encoded(request.texts)
        if request.engine == "torch":
            return probabilities(self._loaded(request, served), texts), "torch"
        graph = self._graphs.of(
            served.graph,
            self._store.folder(request.training_id),
            lambda: self._loaded(request, served),
            lambda: self._held_out(request),
        )
        return graph.probabilities(texts, len(request.model.labels)), engine_of(graph)

    def _loaded(self, request: Infer, served: _Served) -> Network:
        return self._shelf.loaded(request.model, served.path)

    def _held_out(self, request: Infer) -> Encoded | None:
        """None where this worker's samples cannot be read any more."""
        try:
            return self._shelf.shard(request.model, request.dataset).held_out if request.dataset else None
        except AgentError:
            return None

    def _curve(self, request: Infer, served: _Served) -> Curve | None:
        try:
            curve = self._measured(request, served).curve
        except AgentError:
            return None
        return curve if calibration.is_sound(curve) else None

    def _measured(self, request: Infer, served: _Served) -> Measured:
        """Once for each model: a further prediction pays nothing for it. What reading the samples raises."""
        known = self._shelf.measured(served.digest)
        if known is None:
            network = self._loaded(request, served)
            known = measure(network, self._shelf.shard(request.model, request.dataset or "").held_out)
            self._shelf.remember(served.digest, known)
        return known

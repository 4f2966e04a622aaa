"""The graphs for predictions, made when a training ends.

The aggregator writes those of the global model once. Each worker fetches them and writes those of
its own model. So the first prediction waits for none of this.
"""

import asyncio

from workers.agent.context import AgentContext
from workers.agent.datasets.batches import EncodedTexts
from workers.agent.protocol.graphs import FetchGraphs, WriteGraphs, WrittenGraphs
from workers.agent.protocol.inference import InferTexts
from workers.agent.runtime.errors import AgentError
from workers.agent.serving import graph_cache
from workers.agent.serving.infer import InferenceWorker
from workers.agent.storage.tensors import file_digest


class GraphPreparer:
    def __init__(self, context: AgentContext, inference_worker: InferenceWorker) -> None:
        self._peers = context.peers
        self._store = context.store
        self._cache = context.cache
        self._inference_worker = inference_worker

    async def write(self, request: WriteGraphs) -> WrittenGraphs:
        """Write the graphs of a global model that this agent has.

        Raises:
            AgentError: `unknown_model`, `onnx_failed`.
        """
        return await asyncio.to_thread(self._write, request)

    def _write(self, request: WriteGraphs) -> WrittenGraphs:
        model, folder = self._store.require(request.digest), self._store.folder(request.training_id)
        with self._cache.lock:
            paths = graph_cache.write(
                request.digest,
                folder,
                lambda: self._cache.load(request.model, model),
                lambda: self._validation(request),
            )
        return WrittenGraphs(files={path.name: file_digest(path) for path in paths})

    def _validation(self, request: WriteGraphs) -> EncodedTexts | None:
        if request.validation is None:
            return None
        try:
            return self._cache.samples(request.model, request.validation, data_format=request.data_format)
        except AgentError:
            return None

    async def fetch(self, request: FetchGraphs) -> WrittenGraphs:
        """Fetch the graphs of a global model, and load them and that of the own model.

        Raises:
            AgentError: `pull_failed`, `digest_mismatch`, and the errors of `InferenceWorker.infer`.
        """
        for name, digest in request.files.items():
            target = self._store.graph_path(request.training_id, name)
            if not target.exists():
                await self._peers.fetch_file(request.source, f"/trainings/{request.training_id}/graphs/{name}", digest, target)
        for local in (False, True):
            await self._inference_worker.infer(_no_texts(request, local=local))
        return WrittenGraphs(files=request.files)


def _no_texts(request: FetchGraphs, *, local: bool) -> InferTexts:
    return InferTexts(
        training_id=request.training_id,
        model=request.model,
        digest=request.digest,
        source=request.source,
        texts=[],
        local=local,
        dataset=request.dataset,
        data_format=request.data_format,
        engine="onnx",
    )

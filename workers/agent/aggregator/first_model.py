"""A training's first global model: made from its spec or an earlier model, or restored."""

import asyncio

from workers.agent.context import AgentContext
from workers.agent.modeling import initial
from workers.agent.modeling.freezing import frozen_names
from workers.agent.modeling.network import Network
from workers.agent.privacy import per_example
from workers.agent.protocol.training import ImportModel, ImportModelResult, InitTraining, InitTrainingResult
from workers.agent.runtime.errors import AgentError
from workers.agent.storage import tensors


class FirstModel:
    def __init__(self, context: AgentContext) -> None:
        self._peers = context.peers
        self._store = context.store
        self._cache = context.cache
        self._log = context.log
        self._root = context.root

    async def import_export(self, request: ImportModel) -> ImportModelResult:
        """Store an exported model under its digest.

        Raises:
            AgentError: as `initial.read_export`.
        """
        return await asyncio.to_thread(self._import, request)

    def _import(self, request: ImportModel) -> ImportModelResult:
        export = initial.read_export(self._root, request.path, request.model, request.sha256)
        digest = self._store.save(request.training_id, export.state).digest
        if request.discard:
            self._root.resolve(request.path).unlink(missing_ok=True)
        return ImportModelResult(labels=export.labels, digest=digest)

    async def prepare(self, request: InitTraining) -> InitTrainingResult:
        """Publish the first global model, or restore the last one from here or from a source.

        Raises:
            AgentError: `unknown_model`, where the last one, or that to begin from, is nowhere.
                `other_model`, where the first model cannot be made again.
        """
        if request.base_digest is not None:
            await self._restore(request, request.base_digest)
        return await asyncio.to_thread(self._prepare, request)

    def _prepare(self, request: InitTraining) -> InitTrainingResult:
        with self._cache.lock:
            network, digest, size = self._loaded(request)
            frozen_names(network.model, request.freeze_layers)
            if request.private:
                per_example.require_support(network)
            samples, problem = None, None
            try:
                if request.validation:
                    validation = self._cache.samples(
                        request.model, request.validation, request.freeze_layers, data_format=request.data_format
                    )
                    samples = len(validation)
            except AgentError as error:
                problem = None if error.code == "no_match" else error.problem
        parameters = sum(parameter.numel() for parameter in network.model.parameters())
        return InitTrainingResult(digest=digest, parameters=parameters, bytes=size, validation_samples=samples, problem=problem)

    def _loaded(self, request: InitTraining) -> tuple[Network, str, int]:
        """Return the network with the training's model, the model's digest and its file's bytes."""
        if request.base_digest is None or self._store.find(request.base_digest) is None:
            return self._made(request)
        path = self._store.require(request.base_digest)
        return self._cache.load(request.model, path), request.base_digest, path.stat().st_size

    def _made(self, request: InitTraining) -> tuple[Network, str, int]:
        if request.initial is None:
            network = self._cache.rebuild_network(request.model)
            saved = self._store.save(request.training_id, tensors.state_of(network.model))
            return network, saved.digest, saved.bytes
        file = self._store.require(request.initial.digest)
        state = initial.first_weights(request.model, request.initial.model, file, self._root)
        saved = self._store.save(request.training_id, state)
        if request.base_digest not in (None, saved.digest):
            raise AgentError("other_model", "the first model is not the one that this training began with")
        return self._cache.load(request.model, self._store.require(saved.digest)), saved.digest, saved.bytes

    async def _restore(self, request: InitTraining, digest: str) -> None:
        for peer in request.sources:
            if self._store.find(digest) is not None:
                return
            try:
                await self._peers.fetch_model(peer, digest, self._store.path(request.training_id, digest))
            except AgentError as error:
                self._log("no_copy", node=peer.node_id, problem=error.code)
        if request.initial is None:
            self._store.require(digest)

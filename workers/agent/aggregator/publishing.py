"""From accepted updates to the next global model, stored under its digest and measured."""

import time

from workers.agent.aggregator.intake import UpdateIntake
from workers.agent.aggregator.round_state import RoundState
from workers.agent.modeling.cache import ModelCache
from workers.agent.modeling.held_out_metrics import measure
from workers.agent.protocol.common import ModelSpec
from workers.agent.protocol.inference import EvaluationResult
from workers.agent.runtime.errors import DataError
from workers.agent.runtime.logs import Log
from workers.agent.secure_aggregation import flat
from workers.agent.secure_aggregation.collecting import SecureRound
from workers.agent.storage import tensors
from workers.agent.storage.model_store import ModelStore
from workers.agent.updates.validation import checked_length


class Publisher:
    def __init__(self, node_id: str, store: ModelStore, cache: ModelCache, door: UpdateIntake, log: Log) -> None:
        self._node_id = node_id
        self._intake = door
        self._store = store
        self._cache = cache
        self._log = log

    def publish(self, found: RoundState, accepted: list[str]) -> str:
        """The new model's digest; its file, and the server optimiser's state beside it, are in the store."""
        rule, server = found.strategy.rule, found.strategy.server
        held = [found.held[node_id] for node_id in accepted if node_id in found.held]
        if found.secure is not None:
            model = self._added_up(found, found.secure)
        elif rule is not None:
            model = rule([tensors.LazyState(path) for _, path in held])
        else:
            for report, path in held:
                found.mean.add(tensors.read(path), report.samples or 0)
            model = found.mean.result()
        if server is None:
            return self._store.save(found.request.training_id, model).digest
        request = found.request
        model, memory = server.step(tensors.read(self._store.require(request.base_digest)), model, self._memory(found))
        digest = self._store.save(request.training_id, model).digest
        tensors.write(self._store.optimizer_state_path(request.training_id, digest), memory)
        return digest

    def _added_up(self, found: RoundState, secure: SecureRound) -> tensors.State:
        """The model of a secure sum. Single updates are never seen, so the mean is looked at in their place."""
        request = found.request
        base = tensors.read(self._store.require(request.base_digest))
        frozen = self._intake.frozen(request.model, request.freeze_layers)
        model = flat.add_change(base, frozen, secure.mean_change())
        checked_length(model, base)
        return model

    def _memory(self, found: RoundState) -> tensors.State:
        """What the server optimiser kept from the round before; empty in the first round, or where it was lost."""
        path = self._store.optimizer_state_path(found.request.training_id, found.request.base_digest)
        if path.is_file():
            return tensors.read(path)
        if found.request.round > 1:
            notice = "the server optimiser's state of the round before is not here; it begins anew"
            found.watched.change(notices=[*found.report.notices, notice])
            self._log("no_server_state", round=found.request.round)
        return {}

    def validate(self, spec: ModelSpec, digest: str, validation: str, freeze_layers: int) -> EvaluationResult | None:
        """Mean cross-entropy (nats) and accuracy on this node's validation file; None when that has gone."""
        started = time.perf_counter()
        with self._cache.lock:
            network = self._cache.load(spec, self._store.require(digest))
            try:
                samples = self._cache.samples(spec, validation, freeze_layers)
            except DataError as error:
                self._log("no_validation", problem=error.code)
                return None
            found = measure(network, samples)
            self._cache.store_metrics(digest, found)
        return EvaluationResult(
            node_id=self._node_id,
            digest=digest,
            samples=len(samples),
            loss=found.loss,
            accuracy=found.accuracy,
            seconds=time.perf_counter() - started,
        )

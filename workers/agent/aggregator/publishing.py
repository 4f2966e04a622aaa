"""From accepted updates to the next global model, stored under its digest and measured."""

import time

from workers.agent.aggregator.intake import UpdateIntake
from workers.agent.aggregator.round_state import RoundState
from workers.agent.context import AgentContext
from workers.agent.modeling.held_out_metrics import measure
from workers.agent.protocol.aggregation import AggregateRound
from workers.agent.protocol.inference import EvaluationResult
from workers.agent.runtime.errors import DataError
from workers.agent.secure_aggregation import flat
from workers.agent.secure_aggregation.collecting import SecureRound
from workers.agent.storage import tensors
from workers.agent.updates.validation import checked_length


class Publisher:
    def __init__(self, context: AgentContext, intake: UpdateIntake) -> None:
        self._node_id = context.node_id
        self._intake = intake
        self._store = context.store
        self._cache = context.cache
        self._log = context.log

    def publish(self, round_state: RoundState, accepted: list[str]) -> str:
        """Combine the accepted updates. Return the new model's digest.

        The store then has the model's file, and the server optimizer's state beside it.
        """
        request, server = round_state.request, round_state.strategy.server
        model = self._combined(round_state, accepted)
        if server is None:
            return self._store.save(request.training_id, model).digest
        base = tensors.read(self._store.require(request.base_digest))
        model, memory = server.step(base, model, self._server_memory(round_state))
        digest = self._store.save(request.training_id, model).digest
        tensors.write(self._store.optimizer_state_path(request.training_id, digest), memory)
        return digest

    def _combined(self, round_state: RoundState, accepted: list[str]) -> tensors.State:
        if round_state.secure is not None:
            return self._secure_mean(round_state, round_state.secure)
        held = [round_state.held[node_id] for node_id in accepted if node_id in round_state.held]
        rule = round_state.strategy.rule
        if rule is not None:
            return rule([tensors.LazyState(update.path) for update in held])
        for update in held:
            round_state.add_to_mean(tensors.read(update.path), update.report.samples or 0)
        return round_state.mean()

    def _secure_mean(self, round_state: RoundState, secure: SecureRound) -> tensors.State:
        """Return the model of a secure sum.

        Only the mean is checked: no single update is visible.
        """
        request = round_state.request
        base = tensors.read(self._store.require(request.base_digest))
        frozen = self._intake.frozen(request.model, request.freeze_layers)
        model = flat.add_change(base, frozen, secure.mean_change())
        checked_length(model, base)
        return model

    def _server_memory(self, round_state: RoundState) -> tensors.State:
        """Return the server optimizer's state after the round before.

        It is empty in the first round, and where the state was lost.
        """
        request = round_state.request
        path = self._store.optimizer_state_path(request.training_id, request.base_digest)
        if path.is_file():
            return tensors.read(path)
        if request.round > 1:
            round_state.add_notice("the server optimizer's state of the round before is lost; it starts again")
            self._log("no_server_state", round=request.round)
        return {}

    def validate(self, request: AggregateRound, digest: str, validation: str) -> EvaluationResult | None:
        """Measure mean cross-entropy (nats) and accuracy on this node's validation file.

        Return None if that file is no longer there.
        """
        started = time.perf_counter()
        with self._cache.lock:
            network = self._cache.load(request.model, self._store.require(digest))
            try:
                samples = self._cache.samples(request.model, validation, request.freeze_layers, data_format=request.data_format)
            except DataError as error:
                self._log("no_validation", problem=error.code)
                return None
            metrics = measure(network, samples)
            self._cache.store_metrics(digest, metrics)
        return EvaluationResult(
            node_id=self._node_id,
            digest=digest,
            samples=len(samples),
            loss=metrics.loss,
            accuracy=metrics.accuracy,
            seconds=time.perf_counter() - started,
        )

"""Where updates arrive: each is checked, then added to the mean or held on disk."""

from pathlib import Path

from workers.agent.aggregator.round_state import HeldUpdate, RoundState
from workers.agent.modeling.cache import ModelCache
from workers.agent.modeling.freezing import frozen_names
from workers.agent.proof_of_learning.commitment import batch_seed, commitment_fault
from workers.agent.protocol.aggregation import AggregateRound
from workers.agent.protocol.common import ModelSpec
from workers.agent.protocol.training import TrainReport
from workers.agent.runtime.errors import AgentError
from workers.agent.secure_aggregation import flat
from workers.agent.secure_aggregation.collecting import SecureRound
from workers.agent.storage import tensors
from workers.agent.storage.model_store import ModelStore
from workers.agent.updates.validation import ValidUpdate, read_report, validate_update


class UpdateIntake:
    def __init__(self, store: ModelStore, cache: ModelCache) -> None:
        self._store = store
        self._cache = cache

    def accept(self, round_state: RoundState, node_id: str, path: Path) -> TrainReport:
        """Check an update's file and use it. Return its report.

        Raises: AgentError with the reason why the update does not count.
        """
        request = round_state.request
        base = tensors.read(self._store.require(request.base_digest))
        frozen = self.frozen(request.model, request.freeze_layers)
        if round_state.secure is not None:
            length = sum(tensor.numel() for name, tensor in base.items() if name not in frozen)
            return _add_masked(round_state.secure, node_id, path, length)
        update = validate_update(path, node_id, base, frozen, request.compression)
        if round_state.streams:
            round_state.add_to_mean(update.state, update.report.samples or 0)
            return update.report
        if request.consensus == "proof-of-learning" and (fault := _fault(update, base, request)):
            raise AgentError("no_evidence", fault)
        if frozen or not request.compression.is_none:
            # Only parts were sent. The consensus and the strategy read whole models.
            tensors.write(path, update.state)
        held = self._store.updates(request.training_id) / f"{tensors.file_digest(path)}.safetensors"
        path.replace(held)
        round_state.hold(node_id, HeldUpdate(update.report, held, update.length))
        return update.report

    def frozen(self, spec: ModelSpec, freeze_layers: int) -> frozenset[str]:
        """Return the names of the tensors that the round's training does not change."""
        if not freeze_layers and not spec.lora_rank:
            return frozenset()
        with self._cache.lock:
            return frozen_names(self._cache.network(spec).model, freeze_layers)


def _add_masked(secure: SecureRound, node_id: str, path: Path, length: int) -> TrainReport:
    report = read_report(path, node_id)
    if report.samples != secure.samples_of(node_id):
        raise AgentError("no_samples", "the update claims another number of samples than the worker's keys")
    secure.add(node_id, flat.read(path, length))
    return report


def _fault(update: ValidUpdate, base: tensors.State, request: AggregateRound) -> str | None:
    """Return what is wrong with an update's evidence of learning, or None."""
    ends = (tensors.state_digest(update.state), tensors.state_digest(base))
    commitment, hyperparameters = update.report.commitment, request.hyperparameters
    fault = commitment_fault(commitment, request.base_digest, *ends, compressed=not request.compression.is_none)
    if fault or commitment is None or hyperparameters is None:
        return fault
    if commitment.seed != batch_seed(hyperparameters.seed, request.round):
        return "the commitment is to other batches than the round's"
    # Samples alone are a claim, by which a worker could outweigh the others. Steps are costly to
    # claim: an audit may ask for any of them.
    if (update.report.samples or 0) > sum(commitment.steps) * hyperparameters.batch_size:
        return "the update claims more samples than its steps can have used"
    return None

"""Where an update comes in: checked, then folded in or held for those who look at it again."""

from pathlib import Path

from workers.agent.aggregator.round_state import RoundState
from workers.agent.modeling.cache import ModelCache
from workers.agent.modeling.freezing import frozen_names
from workers.agent.proof_of_learning.commitment import batch_seed, commitment_fault
from workers.agent.protocol.aggregation import AggregateRound
from workers.agent.protocol.common import ModelSpec
from workers.agent.protocol.training import TrainReport
from workers.agent.runtime.errors import AgentError
from workers.agent.secure_aggregation import flat
from workers.agent.storage import tensors
from workers.agent.storage.model_store import ModelStore
from workers.agent.updates.validation import ValidUpdate, read_report, validate_update


class UpdateIntake:
    def __init__(self, store: ModelStore, cache: ModelCache) -> None:
        self._store = store
        self._cache = cache

    def take(self, found: RoundState, node_id: str, path: Path) -> TrainReport:
        """The report of an update that may count; AgentError says why another may not."""
        base = tensors.read(self._store.require(found.request.base_digest))
        frozen = self.frozen(found.request.model, found.request.freeze_layers)
        if found.secure is not None:
            length = sum(tensor.numel() for name, tensor in base.items() if name not in frozen)
            report = read_report(path, node_id)
            if report.samples != found.secure.samples_of(node_id):
                raise AgentError("no_samples", "the update stands for another number of samples than was said")
            found.secure.add(node_id, flat.read(path, length))
            return report
        update = validate_update(path, node_id, base, frozen, found.request.compression)
        if found.streams:
            found.mean.add(update.state, update.report.samples or 0)
        else:
            if found.request.consensus == "proof-of-learning" and (fault := _fault(update, base, found.request)):
                raise AgentError("no_evidence", fault)
            if frozen or not found.request.compression.is_none:
                # Only parts travelled; who looks at updates again looks at whole models.
                tensors.write(path, update.state)
            kept = self._store.updates(found.request.training_id) / f"{tensors.file_digest(path)}.safetensors"
            path.replace(kept)
            found.held[node_id] = (update.report, kept)
            found.lengths[node_id] = update.length
        return update.report

    def frozen(self, spec: ModelSpec, freeze_layers: int) -> frozenset[str]:
        """The tensors that a round's training leaves as they are."""
        if not freeze_layers and not spec.lora_rank:
            return frozenset()
        with self._cache.lock:
            return frozen_names(self._cache.network(spec).model, freeze_layers)


def _fault(update: ValidUpdate, base: tensors.State, request: AggregateRound) -> str | None:
    """What is wrong with an update's evidence of learning; None when nothing is."""
    ends = (tensors.state_digest(update.state), tensors.state_digest(base))
    commitment, wanted = update.report.commitment, request.hyperparameters
    fault = commitment_fault(commitment, request.base_digest, *ends, compressed=not request.compression.is_none)
    if fault or commitment is None or wanted is None:
        return fault
    if commitment.seed != batch_seed(wanted.seed, request.round):
        return "the commitment is to other batches than were asked for"
    # An audit may ask for any of the steps, so they are dear; samples alone would be a word that outweighs the others.
    if (update.report.samples or 0) > sum(commitment.steps) * wanted.batch_size:
        return "the update stands for more samples than its steps can have taken"
    return None

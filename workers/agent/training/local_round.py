"""One round of training on the worker's own shard, from the base model to the file that is sent."""

import hashlib
import threading
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from workers.agent.datasets.batches import EncodedShard
from workers.agent.modeling.cache import ModelCache
from workers.agent.modeling.freezing import frozen_names
from workers.agent.modeling.network import Network
from workers.agent.privacy import ledger
from workers.agent.proof_of_learning.commitment import with_sent_state
from workers.agent.proof_of_learning.recording import prepare_folder
from workers.agent.protocol.common import Decision
from workers.agent.protocol.training import TrainReport, TrainRound
from workers.agent.runtime.autonomy import DECLINE, RESUME, allowed
from workers.agent.runtime.worker_report import TrainingResult, WorkerReport
from workers.agent.storage import tensors
from workers.agent.storage.model_store import ModelStore
from workers.agent.training import declining
from workers.agent.training.checkpoint import Checkpoint
from workers.agent.training.gossip_models import GossipModels
from workers.agent.training.local_epochs import LocalTrainingTask, Trained, train
from workers.agent.updates.packing import PackedUpdate, pack

LOCAL_MODEL = "local.safetensors"
_UPDATE = "update.safetensors"
_RESIDUAL = "residual.safetensors"
_CHECKPOINT = "round.checkpoint"


class DeclinedError(Exception):
    """The node takes no part in this round."""

    def __init__(self, decision: Decision) -> None:
        super().__init__(decision.reason)
        self.decision = decision


@dataclass(frozen=True, slots=True)
class WrittenUpdate:
    """The file of a round's update, and what a sparse update leaves out."""

    path: Path
    residual: tensors.State | None

    def was_accepted(self) -> None:
        """Store what this update left out. The next update makes up for it."""
        if self.residual is not None:
            tensors.write(self.path.with_name(_RESIDUAL), self.residual)


@dataclass(frozen=True, slots=True)
class Moments:
    """The optimizer's state after a round, as torch's state dict."""

    training_id: str
    number: int
    state: dict[str, Any]


class LocalTraining:
    """Trains this worker's rounds. `newest` is the update of the last round that was trained."""

    def __init__(self, node_id: str, store: ModelStore, cache: ModelCache) -> None:
        self._node_id = node_id
        self._store = store
        self._cache = cache
        self.gossip_models = GossipModels(store)
        self.newest = WrittenUpdate(Path(), None)
        self._moments: Moments | None = None

    def clear_data(self) -> None:
        """Call it when another training begins: shards may have changed."""
        self._cache.clear_data()

    def model(self, training_id: str) -> Path:
        """Return the file of this worker's last model of a training, with all tensors."""
        return self._store.folder(training_id) / LOCAL_MODEL

    def run(self, report: WorkerReport, request: TrainRound, stop: threading.Event, pull_seconds: float) -> TrainReport:
        """Train, and write the update's file with its report in the metadata. Return that report.

        Raises: DeclinedError if the node declines the round, StoppedError once `stop` is set, and
        AgentError.
        """
        folder, hyperparameters = self._store.folder(request.training_id), request.hyperparameters
        with self._cache.lock:
            network = self._cache.load(request.model, self._start_model(report, request))
            hold_out = hyperparameters.hold_out and hyperparameters.privacy is None
            shard = self._cache.shard(
                request.model,
                request.dataset,
                hyperparameters.freeze_layers,
                data_format=request.data_format,
                hold_out=hold_out,
            )
            # No node declines a private round: the choice would reveal something of its records.
            if hold_out and allowed(DECLINE, request.autonomy):
                _decline_or_continue(network, shard, request, folder)
            task = self._task(request, shard, report, stop)
            trained = train(network, shard, task)
            if trained.moments is not None:
                self._moments = Moments(request.training_id, request.round, trained.moments)
            packed = self._packed(request, network, folder)
            result = self._result(request, trained, packed, len(shard.training), pull_seconds)
            update_report = report.with_training(result)
            path = _write_files(folder, request, network, packed, update_report)
            if task.checkpoint is not None:
                task.checkpoint.remove()
        self.newest = WrittenUpdate(path, packed.residual)
        return update_report

    def _start_model(self, report: WorkerReport, request: TrainRound) -> Path:
        """Return the round's base. Under gossip it is this worker's model of the round before."""
        base = self._store.require(request.base_digest)
        if request.consensus != "gossip" or request.round == 1:
            return base
        last = self.gossip_models.after(request.training_id, request.round - 1)
        if last is None:
            reason = "this worker has no model of the round before"
            report.add_decisions(Decision(action="start_from_mean", reason=reason))
        return last or base

    def _task(self, request: TrainRound, shard: EncodedShard, report: WorkerReport, stop: threading.Event) -> LocalTrainingTask:
        folder, commit = self._store.folder(request.training_id), request.consensus == "proof-of-learning"
        return LocalTrainingTask(
            number=request.round,
            hyperparameters=request.hyperparameters,
            autonomy=request.autonomy,
            base_digest=request.base_digest,
            commit=commit,
            stop=stop,
            progress=report.set_progress,
            moments=self._moments_for(request),
            checkpoint=_checkpoint(request, shard, folder),
            replay=prepare_folder(folder, request) if commit else None,
        )

    def _result(
        self, request: TrainRound, trained: Trained, packed: PackedUpdate, samples: int, pull_seconds: float
    ) -> TrainingResult:
        commitment, privacy = trained.commitment, request.hyperparameters.privacy
        if commitment is not None and not request.compression.is_none:
            commitment = with_sent_state(commitment, request.base_digest, tensors.state_digest(packed.state))
        return TrainingResult(
            samples=samples,
            # With differential privacy nothing exact about the records leaves the sandbox.
            loss=trained.loss if privacy is None else None,
            accuracy=trained.accuracy if privacy is None else None,
            private_steps=self._charge_steps(request),
            train_seconds=trained.seconds,
            pull_seconds=pull_seconds,
            commitment=commitment,
            decisions=trained.decisions,
        )

    def _charge_steps(self, request: TrainRound) -> int | None:
        """Record the round's private steps. Return how many it has spent here, with repetitions."""
        privacy = request.hyperparameters.privacy
        if privacy is None:
            return None
        return ledger.record_steps(self._store.folder(request.training_id), request.round, privacy.steps)

    def _packed(self, request: TrainRound, network: Network, folder: Path) -> PackedUpdate:
        hyperparameters, path = request.hyperparameters, folder / _RESIDUAL
        random = torch.Generator()
        random.manual_seed(zlib.crc32(f"{hyperparameters.seed}/{request.round}/{self._node_id}".encode()))
        return pack(
            tensors.state_of(network.model),
            {} if request.compression.is_none else tensors.read(self._store.require(request.base_digest)),
            frozen_names(network.model, hyperparameters.freeze_layers),
            request.compression,
            tensors.read(path) if request.compression.sparse and path.exists() else None,
            random,
        )

    def _moments_for(self, request: TrainRound) -> dict[str, Any] | None:
        """Return the optimizer's state after this worker's last round, if it is kept and known."""
        moments = self._moments
        if not request.hyperparameters.keep_moments or moments is None:
            return None
        return moments.state if moments.training_id == request.training_id and moments.number < request.round else None


def _decline_or_continue(network: Network, shard: EncodedShard, request: TrainRound, folder: Path) -> None:
    """Raises: DeclinedError if there is a reason to decline the round."""
    reason = declining.reason(network, shard, request.hyperparameters, folder)
    if reason is not None:
        raise DeclinedError(DECLINE.decision(reason))


def _write_files(folder: Path, request: TrainRound, network: Network, packed: PackedUpdate, report: TrainReport) -> Path:
    """Write this worker's model, and the update if it is a part of it. Return the file to send."""
    metadata = {"report": report.model_dump_json()}
    state = tensors.state_of(network.model)
    tensors.write(folder / LOCAL_MODEL, state, metadata)
    if packed.parts.keys() == state.keys() and request.compression.is_none:
        return folder / LOCAL_MODEL
    tensors.write_parts(folder / _UPDATE, packed.parts, metadata)
    return folder / _UPDATE


def _checkpoint(request: TrainRound, shard: EncodedShard, folder: Path) -> Checkpoint | None:
    """Return where the round's progress is kept; None if the node may not resume a round."""
    if not allowed(RESUME, request.autonomy):
        return None
    digest = hashlib.sha256(request.work.model_dump_json().encode())
    for part in (shard.training, shard.held_out):
        digest.update(part.digest().encode())
    return Checkpoint(folder / _CHECKPOINT, digest.hexdigest())

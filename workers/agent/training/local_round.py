"""One round of training on the own shard, from the base model to the file that is sent."""

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
from workers.agent.runtime.long_poll import PollableReport
from workers.agent.storage import tensors
from workers.agent.storage.model_store import ModelStore
from workers.agent.training import declining
from workers.agent.training.checkpoint import Checkpoint
from workers.agent.training.gossip_models import OwnModels
from workers.agent.training.local_epochs import LocalTrainingTask, train
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
class Written:
    """The file of a round's update, and what a sparse update leaves out."""

    path: Path
    residual: tensors.State | None

    def was_accepted(self) -> None:
        """What this update left out belongs to the next one."""
        if self.residual is not None:
            tensors.write(self.path.with_name(_RESIDUAL), self.residual)


class LocalTraining:
    def __init__(self, node_id: str, store: ModelStore, cache: ModelCache) -> None:
        self._node_id = node_id
        self._store = store
        self._cache = cache
        self.own = OwnModels(store)
        self.newest = Written(Path(), None)
        self._moments: tuple[str, int, dict[str, Any]] | None = None

    def clear_data(self) -> None:
        """Another training begins: shards may have changed."""
        self._cache.clear_data()

    def model(self, training_id: str) -> Path:
        """This worker's own last model of a training, whole."""
        return self._store.folder(training_id) / LOCAL_MODEL

    def run(
        self, watched: PollableReport[TrainReport], request: TrainRound, stop: threading.Event, pull_seconds: float
    ) -> TrainReport:
        """Train, and write the update's file with its report in the metadata. DeclinedError where the node would rather not."""
        folder = self._store.folder(request.training_id)

        def progress(part: float) -> None:
            watched.report = watched.report.model_copy(update={"progress": part})

        with self._cache.lock:
            wanted = request.hyperparameters
            network = self._cache.load(request.model, self._start(watched, request))
            hold_out = wanted.hold_out and wanted.privacy is None
            shard = self._cache.shard(request.model, request.dataset, wanted.freeze_layers, hold_out=hold_out)
            # A private round is declined by nobody: whether it is would tell of the records.
            declines = hold_out and allowed(DECLINE, request.autonomy)
            if declines and (reason := declining.reason(network, shard, wanted, folder)):
                raise DeclinedError(DECLINE.decision(reason))
            checkpoint = self._checkpoint(request, shard, folder)
            commit = request.consensus == "proof-of-learning"
            job = LocalTrainingTask(
                request.round,
                wanted,
                request.autonomy,
                request.base_digest,
                commit,
                stop,
                progress,
                self._moments_for(request),
                checkpoint,
                prepare_folder(folder, request) if commit else None,
            )
            found = train(network, shard, job)
            if found.moments is not None:
                self._moments = (request.training_id, request.round, found.moments)
            packed = self._packed(request, network, folder)
            commitment = found.commitment
            if commitment is not None and not request.compression.is_none:
                commitment = with_sent_state(commitment, request.base_digest, tensors.state_digest(packed.state))
            report = watched.report.model_copy(
                update={
                    "state": "done",
                    "progress": 1.0,
                    "samples": len(shard.training),
                    # With differential privacy nothing exact about the records leaves.
                    "loss": found.loss if wanted.privacy is None else None,
                    "accuracy": found.accuracy if wanted.privacy is None else None,
                    "private_steps": self._spent(request),
                    "train_seconds": found.seconds,
                    "pull_seconds": pull_seconds,
                    "commitment": commitment,
                    "decisions": [*watched.report.decisions, *found.decisions],
                }
            )
            metadata = {"report": report.model_dump_json()}
            state = tensors.state_of(network.model)
            whole = packed.parts.keys() == state.keys() and request.compression.is_none
            tensors.write(folder / LOCAL_MODEL, state, metadata)
            if not whole:
                tensors.write_parts(folder / _UPDATE, packed.parts, metadata)
            if checkpoint is not None:
                checkpoint.remove()
        self.newest = Written(folder / (LOCAL_MODEL if whole else _UPDATE), packed.residual)
        return report

    def _start(self, watched: PollableReport[TrainReport], request: TrainRound) -> Path:
        """The round's base; under gossip what this worker itself ended the round before with."""
        base = self._store.require(request.base_digest)
        if request.consensus != "gossip" or request.round == 1:
            return base
        own = self.own.after(request.training_id, request.round - 1)
        if own is None:
            decision = Decision(action="start_from_mean", reason="no model of its own from the round before is here")
            watched.change(decisions=[*watched.report.decisions, decision])
        return own or base

    def _spent(self, request: TrainRound) -> int | None:
        plan = request.hyperparameters.privacy
        return None if plan is None else ledger.record_steps(self._store.folder(request.training_id), request.round, plan.steps)

    def _packed(self, request: TrainRound, network: Network, folder: Path) -> PackedUpdate:
        wanted, path = request.hyperparameters, folder / _RESIDUAL
        random = torch.Generator()
        random.manual_seed(zlib.crc32(f"{wanted.seed}/{request.round}/{self._node_id}".encode()))
        return pack(
            tensors.state_of(network.model),
            {} if request.compression.is_none else tensors.read(self._store.require(request.base_digest)),
            frozen_names(network.model, wanted.freeze_layers),
            request.compression,
            tensors.read(path) if request.compression.sparse and path.exists() else None,
            random,
        )

    def _checkpoint(self, request: TrainRound, shard: EncodedShard, folder: Path) -> Checkpoint | None:
        """Where the round's progress is kept, for a node that may go on from there; nothing is written for others."""
        if not allowed(RESUME, request.autonomy):
            return None
        digest = hashlib.sha256(request.work.model_dump_json().encode())
        for part in (shard.training, shard.held_out):
            digest.update(part.ids.tobytes() + part.offsets.tobytes())
            digest.update(b"" if part.labels is None else part.labels.tobytes())
        return Checkpoint(folder / _CHECKPOINT, digest.hexdigest())

    def _moments_for(self, request: TrainRound) -> dict[str, Any] | None:
        """What the optimizer goes on from: its state after this worker's last round, where it is kept and still here."""
        if not request.hyperparameters.keep_moments or self._moments is None:
            return None
        training_id, number, moments = self._moments
        return moments if training_id == request.training_id and number < request.round else None

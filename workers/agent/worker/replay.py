"""A worker repeats a committed segment of its round, from its checkpoint, on its own data.

Everything it needs is on its disk. So an agent that was restarted meanwhile can also answer.
"""

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from workers.agent.datasets.batches import EncodedShard, shuffled
from workers.agent.modeling import freezing
from workers.agent.modeling.cache import ModelCache
from workers.agent.modeling.network import RNG, Network
from workers.agent.proof_of_learning.commitment import batch_seed
from workers.agent.proof_of_learning.recording import REPLAY_FOLDER, ROUND, SegmentStart, segment_path
from workers.agent.proof_of_learning.trace import FingerprintSampler
from workers.agent.protocol.consensus import AuditResult, AuditSegment
from workers.agent.protocol.training import LocalWork
from workers.agent.runtime.errors import AgentError
from workers.agent.storage import tensors
from workers.agent.storage.model_store import ModelStore
from workers.agent.strategies.fedprox import ProximalTerm
from workers.agent.training.local_epochs import OPTIMIZERS, step

EVIDENCE = ("start", "middle", "end")


@dataclass(slots=True)
class _Replay:
    """The fingerprint of each step, and the loss of the step that the audit asks about."""

    fingerprints: list[str] = field(default_factory=list)
    loss: float = 0.0


class Replayer:
    def __init__(self, node_id: str, store: ModelStore, cache: ModelCache) -> None:
        self._node_id = node_id
        self._store = store
        self._cache = cache

    async def audit(self, audit: AuditSegment) -> AuditResult:
        """Repeat the segment and write its evidence.

        Raises: AgentError `nothing_to_replay` (404) if this worker has no such segment.
        """
        return await asyncio.to_thread(self._audit, audit)

    def evidence(self, training_id: str, number: int, name: str) -> Path:
        """Return the file of one state of the segment that was replayed last.

        Raises: AgentError `nothing_to_replay` (404).
        """
        self._need_work(training_id, number)
        path = self._folder(training_id) / f"{name}.safetensors"
        if name not in EVIDENCE or not path.is_file():
            raise AgentError("nothing_to_replay", "there is no such evidence", 404)
        return path

    def _folder(self, training_id: str) -> Path:
        return self._store.folder(training_id) / REPLAY_FOLDER

    def _need_work(self, training_id: str, number: int) -> LocalWork:
        path = self._folder(training_id) / ROUND
        if path.is_file():
            work = LocalWork.model_validate_json(path.read_bytes())
            if work.round == number:
                return work
        raise AgentError("nothing_to_replay", "this worker has not trained that round", 404)

    def _audit(self, audit: AuditSegment) -> AuditResult:
        started = time.perf_counter()
        work = self._need_work(audit.training_id, audit.round)
        path = segment_path(self._folder(audit.training_id), audit.segment)
        if not path.is_file():
            raise AgentError("nothing_to_replay", "this worker has no such segment", 404)
        start = SegmentStart.read(path)
        with self._cache.lock:
            network = self._cache.load(work.model, self._store.require(work.base_digest))
            freeze_layers = work.hyperparameters.freeze_layers
            shard = self._cache.shard(work.model, work.dataset, freeze_layers, data_format=work.data_format)
            replay = self._replay(network, shard, work, audit, start)
        return AuditResult(
            node_id=self._node_id,
            nonce=audit.nonce,
            fingerprints=replay.fingerprints,
            loss=replay.loss,
            seconds=time.perf_counter() - started,
        )

    def _replay(
        self, network: Network, shard: EncodedShard, work: LocalWork, audit: AuditSegment, start: SegmentStart
    ) -> _Replay:
        """Take the segment's steps from `start`. Write the states that are the evidence."""
        hyperparameters, folder, replay = work.hyperparameters, self._folder(audit.training_id), _Replay()
        freeze_layers, state = hyperparameters.freeze_layers, tensors.state_of(network.model)
        frozen = freezing.frozen_names(network.model, freeze_layers)
        sampler = FingerprintSampler(state, frozen, work.base_digest, batch_seed(hyperparameters.seed, work.round))
        with (
            RNG,
            torch.random.fork_rng(devices=[]),
            freezing.freeze(network.model, freeze_layers) as parameters,
        ):
            proximal = ProximalTerm(network.model, hyperparameters.proximal_mu) if hyperparameters.proximal_mu else None
            optimizer = OPTIMIZERS[hyperparameters.optimizer](
                parameters, lr=hyperparameters.learning_rate, weight_decay=hyperparameters.weight_decay
            )
            optimizer.load_state_dict(start.optimizer)
            if start.state is not None:
                tensors.load_into(network.model, start.state)
            torch.set_rng_state(start.rng)
            tensors.write(folder / "start.safetensors", state)
            network.model.train()
            try:
                for number, batch in enumerate(_batches(shard, work, audit.steps, start), start=1):
                    loss, _ = step(network, shard.training, batch, optimizer, hyperparameters, proximal)
                    replay.fingerprints.append(sampler.fingerprint(state, loss))
                    if number == audit.step:
                        tensors.write(folder / "middle.safetensors", state)
                        replay.loss = loss
            finally:
                network.model.eval()
            tensors.write(folder / "end.safetensors", state)
        return replay


def _batches(shard: EncodedShard, work: LocalWork, steps: int, start: SegmentStart) -> list[NDArray[np.int64]]:
    """Return the batches of `steps` steps after `start`, as in the round.

    The checkpoint has the batch size: memory pressure may have halved the one of the request.
    """
    per_epoch = -(-len(shard.training) // start.batch_size)
    batches: list[NDArray[np.int64]] = []
    epochs: dict[int, list[NDArray[np.int64]]] = {}
    for number in range(start.done, start.done + steps):
        epoch, place = divmod(number, per_epoch)
        if epoch not in epochs:
            seed = (work.hyperparameters.seed, work.round, epoch)
            epochs[epoch] = shuffled(shard.training.lengths, start.batch_size, seed)
        batches.append(epochs[epoch][place])
    return batches

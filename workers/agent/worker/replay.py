"""A worker does a committed segment of its round again, from its checkpoint, on its own data.

Everything that it needs lies on its disk, so that an agent that was restarted meanwhile answers as well.
"""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from workers.agent.datasets.batches import EncodedShard, shuffled
from workers.agent.modeling import freezing
from workers.agent.modeling.cache import ModelCache
from workers.agent.modeling.network import RNG, Network
from workers.agent.proof_of_learning.commitment import batch_seed
from workers.agent.proof_of_learning.recording import REPLAY_FOLDER, ROUND, checkpoint
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
    fingerprints: list[str]
    loss: float = 0.0


class Replayer:
    def __init__(self, node_id: str, store: ModelStore, cache: ModelCache) -> None:
        self._node_id = node_id
        self._store = store
        self._cache = cache

    async def audit(self, request: AuditSegment) -> AuditResult:
        """AgentError `nothing_to_replay` (404) where this worker has no such segment."""
        return await asyncio.to_thread(self._audit, request)

    def evidence(self, training_id: str, number: int, name: str) -> Path:
        """A state of the segment that was replayed last; AgentError `nothing_to_replay`."""
        self._asked(training_id, number)
        path = self._store.folder(training_id) / REPLAY_FOLDER / f"{name}.safetensors"
        if name not in EVIDENCE or not path.is_file():
            raise AgentError("nothing_to_replay", "there is no such evidence", 404)
        return path

    def _asked(self, training_id: str, number: int) -> LocalWork:
        path = self._store.folder(training_id) / REPLAY_FOLDER / ROUND
        if path.is_file():
            request = LocalWork.model_validate_json(path.read_bytes())
            if request.round == number:
                return request
        raise AgentError("nothing_to_replay", "this worker has not trained that round", 404)

    def _audit(self, asked: AuditSegment) -> AuditResult:
        started = time.perf_counter()
        request = self._asked(asked.training_id, asked.round)
        folder = self._store.folder(asked.training_id) / REPLAY_FOLDER
        path = checkpoint(folder, asked.segment)
        if not path.is_file():
            raise AgentError("nothing_to_replay", "this worker has no such segment", 404)
        kept = torch.load(path, weights_only=True)
        with self._cache.lock:
            network = self._cache.load(request.model, self._store.require(request.base_digest))
            shard = self._cache.shard(request.model, request.dataset, request.hyperparameters.freeze_layers)
            walk = self._replay(network, shard, request, asked, kept, folder)
        return AuditResult(
            node_id=self._node_id,
            nonce=asked.nonce,
            fingerprints=walk.fingerprints,
            loss=walk.loss,
            seconds=time.perf_counter() - started,
        )

    def _replay(
        self, network: Network, shard: EncodedShard, request: LocalWork, asked: AuditSegment, kept: dict[str, Any], folder: Path
    ) -> _Replay:
        wanted, found = request.hyperparameters, _Replay([])
        frozen, state = freezing.frozen_names(network.model, wanted.freeze_layers), tensors.state_of(network.model)
        sampler = FingerprintSampler(state, frozen, request.base_digest, batch_seed(wanted.seed, request.round))
        # What the node has made of it: memory pressure halves batches.
        batch_size = int(kept["batch_size"])
        in_epoch = -(-len(shard.training) // batch_size)
        with RNG, torch.random.fork_rng(devices=[]), freezing.freeze(network.model, wanted.freeze_layers) as parameters:
            proximal = ProximalTerm(network.model, wanted.proximal_mu) if wanted.proximal_mu else None
            optimizer = OPTIMIZERS[wanted.optimizer](parameters, lr=wanted.learning_rate, weight_decay=wanted.weight_decay)
            optimizer.load_state_dict(kept["optimizer"])
            if kept["state"] is not None:
                tensors.load_into(network.model, kept["state"])
            torch.set_rng_state(kept["rng"])
            tensors.write(folder / "start.safetensors", state)
            network.model.train()
            try:
                batches: list[NDArray[np.int64]] = []
                for number in range(asked.steps):
                    epoch, place = divmod(kept["done"] + number, in_epoch)
                    if not batches or place == 0:
                        batches = shuffled(shard.training.lengths, batch_size, (wanted.seed, request.round, epoch))
                    loss, _ = step(network, shard.training, batches[place], optimizer, wanted, proximal)
                    found.fingerprints.append(sampler.fingerprint(state, loss))
                    if number + 1 == asked.step:
                        tensors.write(folder / "middle.safetensors", state)
                        found.loss = loss
            finally:
                network.model.eval()
            tensors.write(folder / "end.safetensors", state)
        return found

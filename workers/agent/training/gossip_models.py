"""Consensus `gossip`: the models that a worker itself continues from, one for each of two rounds.

The last round's model stays until the next round is over. So a round that is repeated begins where
it began before. A worker may have no model: it is its first round, or its sandbox is new. It then
begins from the global model, which is the mean of all.
"""

import os
from pathlib import Path

from workers.agent.storage.model_store import ModelStore

_NAME = "own-{}.safetensors"


class GossipModels:
    def __init__(self, store: ModelStore) -> None:
        self._store = store

    def link(self, training_id: str, number: int, digest: str) -> None:
        """Record that this worker ended round `number` with the stored model `digest`."""
        path = self._path(training_id, number)
        path.unlink(missing_ok=True)
        # A hard link: the store may prune the digest's name, and the aggregator still asks for it.
        os.link(self._store.require(digest), path)
        for old in path.parent.glob(_NAME.format("*")):
            if old not in (path, self._path(training_id, number - 1)):
                old.unlink(missing_ok=True)

    def drop(self, training_id: str, number: int) -> None:
        """Forget the round's model: the round fell back to a plain average, which all use next."""
        self._path(training_id, number).unlink(missing_ok=True)

    def after(self, training_id: str, number: int) -> Path | None:
        """Return the model that this worker ended round `number` with, if it still exists."""
        path = self._path(training_id, number)
        return path if path.is_file() else None

    def _path(self, training_id: str, number: int) -> Path:
        return self._store.folder(training_id) / _NAME.format(number)

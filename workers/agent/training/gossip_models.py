"""Consensus `gossip`: the model that a worker itself goes on from, one for each of the last two rounds.

The round before stays until the one after it is over, so that a round which must be repeated begins from where it began. A
worker without one (its first round, or its sandbox is new) begins from the global model, which is the mean of all.
"""

import os
from pathlib import Path

from workers.agent.storage.model_store import ModelStore

_NAME = "own-{}.safetensors"


class OwnModels:
    def __init__(self, store: ModelStore) -> None:
        self._store = store

    def keep(self, training_id: str, number: int, digest: str) -> None:
        """The stored model of that digest is what this worker ended round `number` with."""
        path = self._path(training_id, number)
        path.unlink(missing_ok=True)
        # A link: the store may prune the digest's name, and the aggregator still asks for it.
        os.link(self._store.require(digest), path)
        for old in path.parent.glob(_NAME.format("*")):
            if old not in (path, self._path(training_id, number - 1)):
                old.unlink(missing_ok=True)

    def drop(self, training_id: str, number: int) -> None:
        """The round became a plain average after all: everybody goes on from that."""
        self._path(training_id, number).unlink(missing_ok=True)

    def after(self, training_id: str, number: int) -> Path | None:
        """What this worker ended round `number` with, if it is still here."""
        path = self._path(training_id, number)
        return path if path.is_file() else None

    def _path(self, training_id: str, number: int) -> Path:
        return self._store.folder(training_id) / _NAME.format(number)

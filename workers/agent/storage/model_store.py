"""The models of an agent on disk: /model/<training_id>/<digest>.safetensors."""

import asyncio
import os
import re
import shutil
import time
import uuid
from pathlib import Path

from workers.agent.runtime.errors import AgentError
from workers.agent.storage import tensors
from workers.agent.storage.tensors import State, StoredTensors

_DIGEST = re.compile(r"[0-9a-f]{64}")
_GRAPH = re.compile(r"[0-9a-f]{64}(\.int8)?\.onnx")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_UPDATES = "updates"
_POLL_S = 0.02
# Prefix of the graphs of a worker's own model.
LOCAL_GRAPH = "local-"


class ModelStore:
    """Models by digest.

    It is safe to use from several threads: a file gets its final name only when it is complete.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def folder(self, training_id: str) -> Path:
        """Return the folder of one training.

        Raises:
            AgentError: `bad_id` when the id cannot be the name of a folder.
        """
        if not _NAME.fullmatch(training_id):
            raise AgentError("bad_id", "not a training id")
        return self._folder / training_id

    def updates(self, training_id: str) -> Path:
        """Return the folder in which an aggregator keeps updates until it combines them."""
        return self.folder(training_id) / _UPDATES

    def path(self, training_id: str, digest: str) -> Path:
        """Return the path of a model, whether it exists or not.

        Raises:
            AgentError: `bad_digest`.
        """
        if not _DIGEST.fullmatch(digest):
            raise AgentError("bad_digest", "a digest is 64 hexadecimal digits")
        return self.folder(training_id) / f"{digest}.safetensors"

    def optimizer_state_path(self, training_id: str, digest: str) -> Path:
        """Return the path of the server optimizer's state that belongs to a global model.

        It is pruned together with the model.
        """
        return self.path(training_id, digest).with_suffix(".server.safetensors")

    def graph_path(self, training_id: str, name: str) -> Path:
        """Return the path of a graph of a global model, whether it exists or not.

        It is pruned together with the model.

        Raises:
            AgentError: `bad_graph`.
        """
        if not _GRAPH.fullmatch(name):
            raise AgentError("bad_graph", "not the name of a graph")
        return self.folder(training_id) / name

    def find(self, digest: str) -> Path | None:
        """Return the file of a model, from any training and also from kept updates, or None.

        Raises:
            AgentError: `bad_digest`.
        """
        if not _DIGEST.fullmatch(digest):
            raise AgentError("bad_digest", "a digest is 64 hexadecimal digits")
        for pattern in (f"*/{digest}.safetensors", f"*/{_UPDATES}/{digest}.safetensors"):
            for path in self._folder.glob(pattern):
                return path
        return None

    def require(self, digest: str) -> Path:
        """Return the file of a model.

        Raises:
            AgentError: `bad_digest`, `unknown_model` (404).
        """
        path = self.find(digest)
        if path is None:
            raise AgentError("unknown_model", "this agent has no model of that digest", 404)
        return path

    async def wait_for(self, digest: str, wait_s: float) -> Path:
        """Return the file of a model; wait up to `wait_s` seconds until it exists.

        Raises:
            AgentError: `bad_digest`, `unknown_model` (404).
        """
        end = time.monotonic() + wait_s
        while self.find(digest) is None and time.monotonic() < end:  # noqa: ASYNC110 - threads and downloads create the files
            await asyncio.sleep(_POLL_S)
        return self.require(digest)

    def save(self, training_id: str, state: State) -> StoredTensors:
        """Write a state under its own digest.

        The content is on disk before the file gets its name. So a power cut leaves no empty model.
        """
        part = self.folder(training_id) / f".{uuid.uuid4().hex}.safetensors"
        stored = tensors.write(part, state)
        _sync(part)
        part.replace(self.path(training_id, stored.digest))
        _sync(part.parent)
        return stored

    def prune(self, training_id: str, keep: set[str], *, older: int = 0) -> None:
        """Delete old global models and graphs of a training.

        It keeps the models in `keep` and the `older` newest others, and only the graphs of `keep`.
        Open files stay readable.
        """
        others = [path for path in self.folder(training_id).glob("*") if _is_other(path, keep)]
        models = sorted((path for path in others if path.suffixes == [".safetensors"]), key=lambda path: -path.stat().st_mtime)
        for path in {*others} - {*models[:older]}:
            path.unlink(missing_ok=True)

    def clear_updates(self, training_id: str) -> None:
        shutil.rmtree(self.updates(training_id), ignore_errors=True)


def _is_other(path: Path, keep: set[str]) -> bool:
    digest = path.name.split(".")[0].removeprefix(LOCAL_GRAPH)
    return bool(_DIGEST.fullmatch(digest)) and digest not in keep


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

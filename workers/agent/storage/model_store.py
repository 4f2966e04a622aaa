"""Where an agent keeps models: /model/<training_id>/<digest>.safetensors, named by what is in them."""

import asyncio
import os
import re
import shutil
import time
import uuid
from pathlib import Path

from workers.agent.runtime.errors import AgentError
from workers.agent.storage import tensors
from workers.agent.storage.tensors import State, StoredFile

_DIGEST = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_UPDATES = "updates"
_LOOK_S = 0.02
LOCAL_GRAPH = "local-"


class ModelStore:
    """Models by digest. Safe to use from several threads: files appear whole, under their final name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def folder(self, training_id: str) -> Path:
        """The folder of one training; AgentError `bad_id` when the id could not be a folder's name."""
        if not _NAME.fullmatch(training_id):
            raise AgentError("bad_id", "not a training id")
        return self._folder / training_id

    def updates(self, training_id: str) -> Path:
        """Where an aggregator holds updates until they are folded in."""
        return self.folder(training_id) / _UPDATES

    def path(self, training_id: str, digest: str) -> Path:
        """Where a model of that digest belongs, whether it is there or not."""
        if not _DIGEST.fullmatch(digest):
            raise AgentError("bad_digest", "a digest is 64 hexadecimal digits")
        return self.folder(training_id) / f"{digest}.safetensors"

    def optimizer_state_path(self, training_id: str, digest: str) -> Path:
        """Where the server optimiser's state belongs that goes with a global model; it is pruned with the model."""
        return self.path(training_id, digest).with_suffix(".server.safetensors")

    def find(self, digest: str) -> Path | None:
        """A file of that digest, from any training; held updates are found as well."""
        if not _DIGEST.fullmatch(digest):
            raise AgentError("bad_digest", "a digest is 64 hexadecimal digits")
        for pattern in (f"*/{digest}.safetensors", f"*/{_UPDATES}/{digest}.safetensors"):
            for path in self._folder.glob(pattern):
                return path
        return None

    def require(self, digest: str) -> Path:
        path = self.find(digest)
        if path is None:
            raise AgentError("unknown_model", "this agent has no model of that digest", 404)
        return path

    async def wait_for(self, digest: str, wait_s: float) -> Path:
        """Like `need`, but a model that is on its way here is waited for."""
        end = time.monotonic() + wait_s
        while self.find(digest) is None and time.monotonic() < end:  # noqa: ASYNC110 - threads make these files, and pulls
            await asyncio.sleep(_LOOK_S)
        return self.require(digest)

    def save(self, training_id: str, state: State) -> StoredFile:
        """Publish a state under its own digest. It is on the disk before it has its name: a power cut leaves no empty model."""
        part = self.folder(training_id) / f".{uuid.uuid4().hex}.safetensors"
        saved = tensors.write(part, state)
        _sync(part)
        part.replace(self.path(training_id, saved.digest))
        _sync(part.parent)
        return saved

    def prune(self, training_id: str, keep: set[str], *, older: int = 0) -> None:
        """Delete the training's global models but those of the digests in `keep` and so many of the newest others, and all
        graphs but those of `keep`. Open files stay readable."""
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

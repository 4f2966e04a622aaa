"""An export of a model that was never trained."""

from pathlib import Path
from typing import Any

from tests.workers.agent.texts import spec
from workers.agent.modeling.cache import ModelCache
from workers.agent.protocol.common import ModelSpec
from workers.agent.protocol.exports import ExportModel, ExportResult
from workers.agent.runtime.paths import SandboxRoot
from workers.agent.serving.export import export
from workers.agent.storage import tensors
from workers.agent.storage.model_store import ModelStore


def export_to(folder: Path, model: ModelSpec, temperature: float | None = None, **fields: Any) -> ExportResult:
    """Store the initial weights of the spec in a sandbox at `folder`, and export them."""
    root = SandboxRoot(folder)
    store, cache = ModelStore(root.models), ModelCache(root)
    digest = store.save("train_1", tensors.state_of(cache.network(model).model)).digest
    request = ExportModel(**{"training_id": "train_1", "name": "sentiment_v1.0", "model": model, "digest": digest, **fields})
    return export(root, store, cache, request, temperature)


def exported(folder: Path, **fields: Any) -> Path:
    """Return the exported folder of a `base` model."""
    return folder / export_to(folder, spec(), **fields).path.removeprefix("/")

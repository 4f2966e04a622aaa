"""The weights of a training that begins from an earlier model.

They come from a global model of this cluster, or from an export. An export is read as tensors and
names alone: none of its code is run.
"""

from pathlib import Path
from typing import Any

import torch

from workers.agent.modeling import fitting
from workers.agent.modeling.fitting import PlainModel
from workers.agent.modeling.models.lora import merged
from workers.agent.modeling.network import Network, build, with_adapters
from workers.agent.protocol.common import ModelSpec
from workers.agent.runtime.paths import SandboxRoot
from workers.agent.storage import exports, tensors
from workers.agent.storage.exports import ExportFolder


def read_export(root: SandboxRoot, path: str, spec: ModelSpec, sha256: str | None = None) -> PlainModel:
    """Read an export of a network like `spec`, whatever its labels.

    The tensors are read only if their names and shapes are those of that network.

    Raises:
        AgentError: `export_missing`, `bad_export`, `digest_mismatch`, `initial_model_differs`.
    """
    with exports.opened(root, path, fitting.TOKENIZER_CODE, sha256) as folder:
        labels = folder.labels()
        network = build(spec.model_copy(update={"labels": labels, "lora_rank": 0}), root)
        config: Any = network.model.config
        fitting.check_config(folder.read_object(exports.CONFIG), config.to_dict(), spec)
        _check_tokenizer(folder, network)
        fitting.check_shapes(folder.shapes(), fitting.shapes_of(tensors.state_of(network.model)), spec)
        state = tensors.read(folder.weights)
    if not all(bool(torch.isfinite(tensor).all()) for tensor in state.values()):
        raise exports.bad("its weights hold NaN or infinity")
    return PlainModel(labels, state)


def first_weights(spec: ModelSpec, source: ModelSpec, file: Path, root: SandboxRoot) -> tensors.State:
    """Return the first weights of a training of `spec` that begins from the model in `file`.

    `source` is the spec of that model. Rows of further labels are drawn by the seed of `spec`. So
    the same arguments give the same weights.

    Raises:
        AgentError: `initial_model_differs`, and the errors of `build`.
    """
    old = build(source, root)
    tensors.load_into(old.model, tensors.read(file))
    plain = PlainModel(source.labels, tensors.state_of(merged(old.model)))
    network = build(spec.model_copy(update={"lora_rank": 0}), root)
    tensors.load_into(network.model, fitting.fitted(plain, tensors.state_of(network.model), spec))
    return tensors.state_of(with_adapters(network, spec).model)


def _check_tokenizer(folder: ExportFolder, network: Network) -> None:
    """Check that the export and the network give the same ids to the same texts."""
    if network.tokenizer is None:
        fitting.check_hashed_words(folder, network.spec)
        return
    model = folder.read_object(exports.TOKENIZER).get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if not isinstance(vocabulary, dict) or not vocabulary.items() <= network.tokenizer.get_vocab().items():
        raise fitting.differs("its tokenizer has another vocabulary", network.spec)

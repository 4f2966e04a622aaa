"""Whether a stored model fits a network, and its tensors in that network's shapes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from workers.agent.modeling import hashed_words
from workers.agent.protocol.common import ModelSpec
from workers.agent.runtime.errors import AgentError
from workers.agent.storage.exports import ExportFolder
from workers.agent.storage.tensors import State

# The files with which an export tokenizes hashed words.
TOKENIZER_CODE: Final = ("hashed_words.py", "tokenization_hashed_words.py")
# What does not change what the network computes for a text: names, dropout and the way of loading.
_NOT_COMPARED: Final = frozenset(
    {
        "id2label", "label2id", "num_labels", "problem_type", "architectures", "auto_map", "_name_or_path",
        "transformers_version", "dtype", "torch_dtype", "use_cache", "initializer_range", "tie_word_embeddings",
        "bos_token_id", "eos_token_id", "pad_token_id",
    }
)  # fmt: skip
_LONGEST_SHOWN: Final = 50


@dataclass(frozen=True, slots=True)
class PlainModel:
    """A model without adapters: its classes in output order, and its tensors."""

    labels: list[str]
    state: State


def fitted(old: PlainModel, fresh: Mapping[str, torch.Tensor], spec: ModelSpec) -> State:
    """Return the old tensors, in the shapes of `fresh`, which are those of a network of `spec`.

    Where the first dimension of a tensor counts the classes, each class of the old model keeps its
    row. The rows of other classes are those of `fresh`.

    Raises:
        AgentError: `initial_model_differs`.
    """
    rows = {label: row for row, label in enumerate(old.labels)}
    targets = [index for index, label in enumerate(spec.labels) if label in rows]
    sources = [rows[spec.labels[index]] for index in targets]
    shapes = {name: _with_classes(tensor, fresh.get(name), old.labels, spec.labels) for name, tensor in old.state.items()}
    check_shapes(shapes, shapes_of(fresh), spec)
    state = {}
    for name, tensor in old.state.items():
        state[name] = tensor
        if tensor.shape != fresh[name].shape:
            state[name] = fresh[name].clone()
            state[name][targets] = tensor[sources]
    return state


def _with_classes(tensor: torch.Tensor, fresh: torch.Tensor | None, old: Sequence[str], new: Sequence[str]) -> tuple[int, ...]:
    """Return the tensor's shape with the number of the new classes, where it counts classes."""
    shape = tuple(tensor.shape)
    if fresh is None or shape == tuple(fresh.shape) or shape[:1] != (len(old),):
        return shape
    return (len(new), *shape[1:])


def shapes_of(state: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def check_shapes(found: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]], spec: ModelSpec) -> None:
    """Raises: AgentError `initial_model_differs`."""
    missing, extra = sorted(expected.keys() - found.keys()), len(found.keys() - expected.keys())
    if missing or extra:
        raise differs(f"it lacks {missing[0]}" if missing else f"it has {extra} further tensors", spec)
    for name, shape in expected.items():
        if found[name] != shape:
            raise differs(f"its {name} has the shape {list(found[name])}, and {list(shape)} here", spec)


def check_config(found: Mapping[str, Any], config: Mapping[str, Any], spec: ModelSpec) -> None:
    """Check what shapes do not show, such as the number of attention heads.

    Raises:
        AgentError: `initial_model_differs`.
    """
    for name in sorted(config.keys() & found.keys() - _NOT_COMPARED, key=lambda name: (name != "model_type", name)):
        if found[name] != config[name] and "drop" not in name:
            raise differs(f"its {name} is {_shown(found[name])}, and {_shown(config[name])} here", spec)


def check_hashed_words(folder: ExportFolder, spec: ModelSpec) -> None:
    """Check that the export's code of hashed words is this version's. It is compared, never run.

    Raises:
        AgentError: `initial_model_differs`.
    """
    code = Path(hashed_words.__file__)
    if any(folder.read(name) != code.with_name(name).read_bytes() for name in TOKENIZER_CODE):
        raise differs("its tokenizer is not this version's hashed words", spec)


def differs(reason: str, spec: ModelSpec) -> AgentError:
    message = (
        f"the earlier model does not fit this training's model {spec.model!r} of the architecture {spec.architecture!r} "
        f"with max_length {spec.max_length}: {reason}"
    )
    return AgentError("initial_model_differs", message)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else type(value).__name__

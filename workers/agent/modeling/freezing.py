"""Freezing embeddings and the first encoder layers: what they make of a text never changes, so it is computed once and kept.

Later epochs then cost only the layers above (the observation behind e.g. Lee et al., "What Would Elsa Do? Freezing Layers
During Transformer Fine-Tuning", 2019, arXiv:1911.03090). A kept text is always the same text: neither the tokens nor the
frozen layers know dropout.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from workers.agent.datasets.batches import EncodedTexts, by_length
from workers.agent.modeling.models.lora import frozen_by_adapters
from workers.agent.runtime.errors import AgentError

_STACKS = ("encoder.layer", "h", "layers")
_EMBEDDINGS = ("embeddings", "wte", "wpe", "embed_tokens")
_BATCH = 64
MEMORY_BYTES = 256 * 2**20


@dataclass(frozen=True, slots=True)
class _Stack:
    """A model's encoder layers: `parent.name` is the list that its forward pass walks."""

    parent: nn.Module
    name: str
    prefix: str

    @property
    def layers(self) -> nn.ModuleList:
        found: nn.ModuleList = getattr(self.parent, self.name)
        return found

    @contextmanager
    def instead(self, layers: list[nn.Module]) -> Iterator[None]:
        own = self.layers
        setattr(self.parent, self.name, nn.ModuleList(layers))
        try:
            yield
        finally:
            setattr(self.parent, self.name, own)


class _ActivationRecorder(nn.Module):
    """Stands where a layer would and notes what comes in, shape (texts, tokens, width)."""

    def __init__(self, like: nn.Module) -> None:
        super().__init__()
        self.attention_type = getattr(like, "attention_type", None)
        self.seen = torch.empty(0)

    def forward(self, hidden_states: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        self.seen = hidden_states
        return hidden_states


class _ActivationPlayer(_ActivationRecorder):
    """Stands where the frozen layers would and gives what they gave."""

    def forward(self, hidden_states: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        return self.seen


def frozen_names(model: nn.Module, count: int) -> frozenset[str]:
    """Parameters that are not trained: those of the embeddings and the first `count` layers, none for 0, and whatever adapters
    leave alone.

    AgentError: freeze_unavailable, too_many_layers.
    """
    held = frozen_by_adapters(model)
    if count == 0:
        return held
    stack = _stack(model, count)
    base: str = getattr(model, "base_model_prefix", "")
    prefixes = [f"{base}.{name}." for name in _EMBEDDINGS] + [f"{stack.prefix}.{index}." for index in range(count)]
    return held | {name for name, _ in model.named_parameters() if name.startswith(tuple(prefixes))}


@contextmanager
def freeze(model: nn.Module, count: int) -> Iterator[list[nn.Parameter]]:
    """The parameters that are left to train; the others know no gradient meanwhile."""
    names = frozen_names(model, count)
    held = [parameter for name, parameter in model.named_parameters() if name in names]
    for parameter in held:
        parameter.requires_grad_(False)
    try:
        yield [parameter for parameter in model.parameters() if parameter.requires_grad]
    finally:
        for parameter in held:
            parameter.requires_grad_(True)


def with_activations(model: nn.Module, count: int, data: EncodedTexts, folder: Path) -> EncodedTexts:
    """`data` with what the first `count` layers make of it, fp32 of shape (tokens of all texts, width): in memory, above
    MEMORY_BYTES in an unnamed file below `folder`."""
    stack = _stack(model, count)
    recorder = _ActivationRecorder(stack.layers[0])
    kept: NDArray[np.float32] | None = None
    with torch.inference_mode(), stack.instead([*stack.layers[:count], recorder]):
        for batch in by_length(data.lengths, _BATCH):
            ids, mask = data.batch(batch)
            model(input_ids=ids, attention_mask=mask)
            if kept is None:
                kept = _room(len(data.ids), recorder.seen.shape[2], folder)
            found = recorder.seen[mask.bool()].numpy()
            starts = np.concatenate([np.arange(data.offsets[index], data.offsets[index + 1]) for index in batch])
            kept[starts] = found
    return replace(data, activations=kept, frozen_layers=count)


def logits_from_activations(model: nn.Module, data: EncodedTexts, batch: NDArray[np.int64]) -> torch.Tensor:
    """Shape (texts, classes), from the kept activations of `data` on."""
    ids, mask = data.batch(batch)
    with replaying(model, data.frozen_layers) as player:
        player.seen = frozen_activations(data, batch)
        result: torch.Tensor = model(input_ids=ids, attention_mask=mask).logits
    return result


def frozen_activations(data: EncodedTexts, batch: NDArray[np.int64]) -> torch.Tensor:
    """What is kept of a batch, fp32 of shape (texts, longest text among them, width); zeros at padding."""
    if data.activations is None:
        raise ValueError("these texts have no kept activations")
    _, mask = data.batch(batch)
    hidden = np.zeros((*mask.shape, data.activations.shape[1]), np.float32)
    starts = np.concatenate([np.arange(data.offsets[index], data.offsets[index + 1]) for index in batch])
    hidden[mask.bool().numpy()] = data.activations[starts]
    return torch.from_numpy(hidden)


@contextmanager
def replaying(model: nn.Module, count: int) -> Iterator["_ActivationPlayer"]:
    """The first `count` layers give what the player was told they saw."""
    stack = _stack(model, count)
    player = _ActivationPlayer(stack.layers[0])
    with stack.instead([player, *stack.layers[count:]]):
        yield player


def _room(tokens: int, width: int, folder: Path) -> NDArray[np.float32]:
    if tokens * width * 4 <= MEMORY_BYTES:
        return np.empty((tokens, width), np.float32)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        return np.memmap(file, np.float32, "w+", shape=(tokens, width))


def _stack(model: nn.Module, count: int) -> _Stack:
    base = getattr(model, "base_model", model)
    for path in _STACKS:
        *parents, name = path.split(".")
        parent = base
        for step in parents:
            parent = getattr(parent, step, None)
        layers = getattr(parent, name, None)
        if isinstance(parent, nn.Module) and isinstance(layers, nn.ModuleList):
            if count > len(layers):
                raise AgentError("too_many_layers", f"the model has {len(layers)} layers to freeze, not {count}")
            return _Stack(parent, name, f"{getattr(model, 'base_model_prefix', '')}.{path}")
    raise AgentError("freeze_unavailable", "this architecture has no layers that could be frozen and kept")

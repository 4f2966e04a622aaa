"""Freezing: the embeddings and the first encoder layers are not trained.

Their output for a text never changes, so it is computed once and kept, if there is room. Later
epochs compute only the layers above. See e.g. Lee et al., "What Would Elsa Do? Freezing Layers
During Transformer Fine-Tuning", 2019, arXiv:1911.03090. A kept text is always the same: it has no
token dropout, and the frozen layers have no dropout.
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
from workers.agent.runtime import disk
from workers.agent.runtime.errors import AgentError

_STACKS = ("encoder.layer", "h", "layers")
_EMBEDDINGS = ("embeddings", "wte", "wpe", "embed_tokens")
_BATCH = 64
MEMORY_BYTES = 256 * 2**20
DISK_BYTES = 2 * 2**30


@dataclass(frozen=True, slots=True)
class _Stack:
    """The encoder layers of a model.

    `parent.name` is the list of layers that the forward pass uses. `prefix` is the prefix of their
    names.
    """

    parent: nn.Module
    name: str
    prefix: str

    @property
    def layers(self) -> nn.ModuleList:
        layers: nn.ModuleList = getattr(self.parent, self.name)
        return layers

    @contextmanager
    def replaced_by(self, layers: list[nn.Module]) -> Iterator[None]:
        """Within this context, the model uses `layers` as its encoder layers."""
        original = self.layers
        setattr(self.parent, self.name, nn.ModuleList(layers))
        try:
            yield
        finally:
            setattr(self.parent, self.name, original)


class _ActivationRecorder(nn.Module):
    """A layer that records its input, shape (texts, tokens, width)."""

    def __init__(self, like: nn.Module) -> None:
        super().__init__()
        self.attention_type = getattr(like, "attention_type", None)
        self.seen = torch.empty(0)

    def forward(self, hidden_states: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        self.seen = hidden_states
        return hidden_states


class _ActivationPlayer(_ActivationRecorder):
    """A layer that returns recorded activations. It replaces the frozen layers."""

    def forward(self, hidden_states: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        return self.seen


def frozen_names(model: nn.Module, count: int) -> frozenset[str]:
    """Return the names of the parameters that are not trained.

    These are the embeddings and the first `count` layers (none for 0), and what adapters do not
    train.

    Raises:
        AgentError: `freeze_unavailable`, `too_many_layers`.
    """
    frozen = frozen_by_adapters(model)
    if count == 0:
        return frozen
    stack = _stack(model, count)
    base: str = getattr(model, "base_model_prefix", "")
    prefixes = [f"{base}.{name}." for name in _EMBEDDINGS] + [f"{stack.prefix}.{index}." for index in range(count)]
    return frozen | {name for name, _ in model.named_parameters() if name.startswith(tuple(prefixes))}


@contextmanager
def freeze(model: nn.Module, count: int) -> Iterator[list[nn.Parameter]]:
    """Within this context, frozen parameters need no gradient. It yields the others."""
    names = frozen_names(model, count)
    frozen = [parameter for name, parameter in model.named_parameters() if name in names]
    for parameter in frozen:
        parameter.requires_grad_(False)
    try:
        yield [parameter for parameter in model.parameters() if parameter.requires_grad]
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)


def with_activations(model: nn.Module, count: int, data: EncodedTexts, folder: Path) -> EncodedTexts:
    """Return `data` with the output of the first `count` layers.

    The output is fp32 with shape (tokens of all texts, width). Above MEMORY_BYTES it is in an
    unnamed file in `folder`. If it takes more than DISK_BYTES, or a quarter of the disk that is
    left, it is not kept. Then it is computed again for each batch.
    """
    data = replace(data, activations=None, frozen_layers=count)
    kept: NDArray[np.float32] | None = None
    for batch in by_length(data.lengths, _BATCH):
        hidden = frozen_activations(model, data, batch)
        if kept is None:
            kept = _empty_activations(len(data.ids), hidden.shape[2], folder)
            if kept is None:
                break
        _, mask = data.batch(batch)
        width = hidden.shape[1]
        kept[_places(data, batch, width)] = hidden[mask[:, :width].bool()].numpy()
    return replace(data, activations=kept)


def logits_from_activations(model: nn.Module, data: EncodedTexts, batch: NDArray[np.int64]) -> torch.Tensor:
    """Compute the logits from the frozen layers' output: shape (texts, classes)."""
    ids, mask = data.batch(batch)
    hidden = frozen_activations(model, data, batch)
    with replaying(model, data.frozen_layers) as player:
        player.seen = hidden
        result: torch.Tensor = model(input_ids=ids, attention_mask=mask).logits
    return result


def read_by_layers(model: nn.Module, tokens: int) -> int:
    """Return how many of a batch's tokens the layers read. A linear path may read more."""
    most: int = getattr(model.config, "deep_tokens", tokens)
    return min(tokens, most)


def frozen_activations(model: nn.Module, data: EncodedTexts, batch: NDArray[np.int64]) -> torch.Tensor:
    """Return the frozen layers' output for a batch, kept or computed; zero at padding.

    It is fp32 with shape (texts, tokens that the layers read, width).
    """
    ids, mask = data.batch(batch)
    if data.activations is None:
        return _computed(model, data.frozen_layers, ids, mask)
    tokens = read_by_layers(model, mask.shape[1])
    hidden = np.zeros((len(batch), tokens, data.activations.shape[1]), np.float32)
    hidden[mask[:, :tokens].bool().numpy()] = data.activations[_places(data, batch, tokens)]
    return torch.from_numpy(hidden)


def _computed(model: nn.Module, count: int, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Run the first `count` layers in fp32 and without dropout, as for kept activations."""
    stack, was_training = _stack(model, count), model.training
    recorder = _ActivationRecorder(stack.layers[0])
    model.eval()
    try:
        with torch.no_grad(), torch.autocast(ids.device.type, enabled=False):
            with stack.replaced_by([*stack.layers[:count], recorder]):
                model(input_ids=ids, attention_mask=mask)
            return recorder.seen * mask[:, : recorder.seen.shape[1]].unsqueeze(2)
    finally:
        model.train(was_training)


def _places(data: EncodedTexts, batch: NDArray[np.int64], tokens: int) -> NDArray[np.int64]:
    """Return where the activations of the first `tokens` tokens of each text are kept."""
    starts, ends = data.offsets[batch], data.offsets[batch + 1]
    return np.concatenate([np.arange(start, min(start + tokens, end)) for start, end in zip(starts, ends, strict=True)])


@contextmanager
def replaying(model: nn.Module, count: int) -> Iterator["_ActivationPlayer"]:
    """Within this context, the first `count` layers return the activations of the player."""
    stack = _stack(model, count)
    player = _ActivationPlayer(stack.layers[0])
    with stack.replaced_by([player, *stack.layers[count:]]):
        yield player


def _empty_activations(tokens: int, width: int, folder: Path) -> NDArray[np.float32] | None:
    size = tokens * width * 4
    if size <= MEMORY_BYTES:
        return np.empty((tokens, width), np.float32)
    folder.mkdir(parents=True, exist_ok=True)
    if size > min(DISK_BYTES, disk.left(folder.parent) // 4):
        return None
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
    raise AgentError("freeze_unavailable", "this architecture has no layers that can be frozen")

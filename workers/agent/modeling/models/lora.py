"""Low-rank adapters: every matrix W of the encoder becomes W + scale * up @ down, and only `up` and the head are trained.

LoRA: Hu et al., ICLR 2022, arXiv:2106.09685. `down` is random, the same on every node, and stays as it is, as in FFA-LoRA
(Sun et al., ICLR 2024, arXiv:2403.12313): then the mean of the workers' adapters is the adapter of the mean model, which it
is not when both halves are averaged, and half as much travels.
"""

import copy
import math
from typing import Any

import torch
from torch import nn

from workers.agent.runtime.errors import AgentError

_SCALE = 2.0
_HEADS = ("classifier.", "score.", "pre_classifier.", "logits_proj.", "pooler.")


class LoraLayer(nn.Module):
    """A linear layer and its adapter. `up` begins at zero, so that the model begins as it was."""

    def __init__(self, inner: Any, rank: int) -> None:
        super().__init__()
        # GPT-2 keeps its matrices the other way round, in a class of its own.
        wide, high = inner.weight.shape if _is_turned(inner) else reversed(inner.weight.shape)
        self.inner = inner
        self.up = nn.Parameter(torch.zeros(high, rank))
        self.down = nn.Parameter(torch.randn(rank, wide) / math.sqrt(wide))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        own: torch.Tensor = self.inner(x)
        return own + _SCALE * nn.functional.linear(nn.functional.linear(x, self.down), self.up)

    def merged(self) -> nn.Module:
        """The linear layer alone, with the adapter added in for good."""
        with torch.no_grad():
            added = _SCALE * (self.up @ self.down)
            self.inner.weight += added.T if _is_turned(self.inner) else added
        found: nn.Module = self.inner
        return found


def adapt(model: nn.Module, rank: int) -> None:
    """Give every linear layer below the head an adapter. AgentError `lora_unavailable` where there is none."""
    base: Any = getattr(model, "base_model", model)
    names = [
        name
        for name, module in base.named_modules()
        if (isinstance(module, nn.Linear) or _is_turned(module)) and not f"{name}.".startswith(_HEADS)
    ]
    if base is model or not names:
        raise AgentError("lora_unavailable", "this architecture has no linear layers below its head that could be adapted")
    for name in names:
        inner = base.get_submodule(name)
        base.set_submodule(name, LoraLayer(inner, min(rank, *inner.weight.shape)))


def frozen_by_adapters(model: nn.Module) -> frozenset[str]:
    """Parameters that an adapted model does not train: all but the adapters' `up` and the head. None without adapters."""
    if not any(isinstance(module, LoraLayer) for module in model.modules()):
        return frozenset()
    prefix = f"{getattr(model, 'base_model_prefix', '')}."
    return frozenset(
        name
        for name, _ in model.named_parameters()
        if not name.endswith(".up") and not name.removeprefix(prefix).startswith(_HEADS)
    )


def merged(model: nn.Module) -> nn.Module:
    """The same model with its adapters added in, as others know it; a copy where there are any."""
    if not frozen_by_adapters(model):
        return model
    whole = copy.deepcopy(model)
    for name, module in list(whole.named_modules()):
        if isinstance(module, LoraLayer):
            whole.set_submodule(name, module.merged())
    return whole


def _is_turned(module: object) -> bool:
    return type(module).__name__ == "Conv1D"

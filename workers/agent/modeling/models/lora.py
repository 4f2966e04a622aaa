"""Low-rank adapters: every matrix W of the encoder becomes W + scale * up @ down.

Only `up` and the head are trained. LoRA: Hu et al., ICLR 2022, arXiv:2106.09685. `down` is random
and the same on every node. It is frozen, as in FFA-LoRA (Sun et al., ICLR 2024, arXiv:2403.12313).
So the mean of the workers' adapters is exactly the adapter of the mean model. With two trained
halves this would not hold. An update is also half as large.

No library: peft does not offer this variant by itself, and it needs accelerate in every sandbox.
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
    """A linear layer and its adapter. `up` starts at zero, so the model starts unchanged."""

    def __init__(self, inner: Any, rank: int) -> None:
        super().__init__()
        # GPT-2 stores its matrices transposed, in its class Conv1D.
        inputs, outputs = inner.weight.shape if _is_transposed(inner) else reversed(inner.weight.shape)
        self.inner = inner
        self.up = nn.Parameter(torch.zeros(outputs, rank))
        self.down = nn.Parameter(torch.randn(rank, inputs) / math.sqrt(inputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        base_output: torch.Tensor = self.inner(x)
        return base_output + _SCALE * nn.functional.linear(nn.functional.linear(x, self.down), self.up)

    def merged(self) -> nn.Module:
        """Add the adapter to the linear layer, and return the layer alone."""
        with torch.no_grad():
            difference = _SCALE * (self.up @ self.down)
            self.inner.weight += difference.T if _is_transposed(self.inner) else difference
        linear: nn.Module = self.inner
        return linear


def adapt(model: nn.Module, rank: int) -> None:
    """Add an adapter to every linear layer below the head.

    Raises:
        AgentError: `lora_unavailable` when there is no such layer.
    """
    base: Any = getattr(model, "base_model", model)
    names = [
        name
        for name, module in base.named_modules()
        if (isinstance(module, nn.Linear) or _is_transposed(module)) and not f"{name}.".startswith(_HEADS)
    ]
    if base is model or not names:
        raise AgentError("lora_unavailable", "this architecture has no linear layers below its head to adapt")
    for name in names:
        inner = base.get_submodule(name)
        base.set_submodule(name, LoraLayer(inner, min(rank, *inner.weight.shape)))


def frozen_by_adapters(model: nn.Module) -> frozenset[str]:
    """Return the parameters that an adapted model does not train.

    These are all but the adapters' `up` and the head. Without adapters the set is empty.
    """
    if not any(isinstance(module, LoraLayer) for module in model.modules()):
        return frozenset()
    prefix = f"{getattr(model, 'base_model_prefix', '')}."
    return frozenset(
        name
        for name, _ in model.named_parameters()
        if not name.endswith(".up") and not name.removeprefix(prefix).startswith(_HEADS)
    )


def merged(model: nn.Module) -> nn.Module:
    """Return the model with its adapters added to the matrices, in its usual form.

    A model with adapters is copied.
    """
    if not frozen_by_adapters(model):
        return model
    whole = copy.deepcopy(model)
    for name, module in list(whole.named_modules()):
        if isinstance(module, LoraLayer):
            whole.set_submodule(name, module.merged())
    return whole


def _is_transposed(module: object) -> bool:
    return type(module).__name__ == "Conv1D"

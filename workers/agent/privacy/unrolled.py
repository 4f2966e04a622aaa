"""LSTM layers word by word, in plain matrix products: vmap cannot follow the fused kernel."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn


@contextmanager
def unrolled(model: nn.Module) -> Iterator[None]:
    """Every nn.LSTM below `model` computes word by word while this lasts; one layer, one direction, batch first."""
    with ExitStack() as back:
        for layer in model.modules():
            if isinstance(layer, nn.LSTM):
                vars(layer)["forward"] = partial(_forward, layer)
                back.callback(delattr, layer, "forward")
        yield


def _forward(layer: Any, words: torch.Tensor) -> tuple[torch.Tensor, None]:
    """(texts, words, width) -> (texts, words, hidden). Gates in torch's order: input, forget, cell, output."""
    gates = nn.functional.linear(words, layer.weight_ih_l0, layer.bias_ih_l0 + layer.bias_hh_l0)
    hidden = cell = torch.zeros_like(gates[:, 0, : layer.hidden_size])
    found = []
    for each in gates.unbind(1):
        now = each + nn.functional.linear(hidden, layer.weight_hh_l0)
        enter, keep, content, leave = now.chunk(4, dim=1)
        cell = torch.sigmoid(keep) * cell + torch.sigmoid(enter) * torch.tanh(content)
        hidden = torch.sigmoid(leave) * torch.tanh(cell)
        found.append(hidden)
    return torch.stack(found, dim=1), None

"""LSTM layers computed word by word with plain matrix products.

torch.func.vmap does not support the fused LSTM kernel.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn


@contextmanager
def unrolled(model: nn.Module) -> Iterator[None]:
    """Within this context, every nn.LSTM in `model` computes word by word.

    It supports one layer, one direction and batch first.
    """
    with ExitStack() as back:
        for layer in model.modules():
            if isinstance(layer, nn.LSTM):
                vars(layer)["forward"] = partial(_forward, layer)
                back.callback(delattr, layer, "forward")
        yield


def _forward(layer: Any, words: torch.Tensor) -> tuple[torch.Tensor, None]:
    """Map (texts, words, width) to (texts, words, hidden).

    The gates are in torch's order: input, forget, cell, output.
    """
    gates = nn.functional.linear(words, layer.weight_ih_l0, layer.bias_ih_l0 + layer.bias_hh_l0)
    hidden = cell = torch.zeros_like(gates[:, 0, : layer.hidden_size])
    outputs = []
    for word_gates in gates.unbind(1):
        step_gates = word_gates + nn.functional.linear(hidden, layer.weight_hh_l0)
        input_gate, forget_gate, content, output_gate = step_gates.chunk(4, dim=1)
        cell = torch.sigmoid(forget_gate) * cell + torch.sigmoid(input_gate) * torch.tanh(content)
        hidden = torch.sigmoid(output_gate) * torch.tanh(cell)
        outputs.append(hidden)
    return torch.stack(outputs, dim=1), None

"""The optimizers of a training, compared with torch's plain ones."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from workers.agent.training.local_epochs import OPTIMIZERS

PLAIN: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
    "rmsprop": torch.optim.RMSprop,
    "adagrad": torch.optim.Adagrad,
}


@pytest.mark.parametrize("name", sorted(PLAIN))
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_a_named_optimizer_takes_the_steps_of_the_plain_one(name: str, weight_decay: float) -> None:
    ends = []
    for make in (OPTIMIZERS[name], PLAIN[name]):
        draw = torch.Generator().manual_seed(0)
        weight = nn.Parameter(torch.randn(40, 30, generator=draw))
        optimizer = make([weight], lr=0.01, weight_decay=weight_decay)
        for _ in range(20):
            optimizer.zero_grad()
            (weight @ torch.randn(30, 5, generator=draw)).square().sum().backward()
            optimizer.step()
        ends.append(weight.detach())
    assert not torch.equal(ends[0], torch.randn(40, 30, generator=torch.Generator().manual_seed(0)))
    assert torch.allclose(ends[0], ends[1], rtol=1e-4, atol=1e-5)

import pytest
import torch

from workers.agent.train import OPTIMIZERS

PLAIN = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
    "rmsprop": torch.optim.RMSprop,
    "adagrad": torch.optim.Adagrad,
}


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_it_steps_as_the_plain_one_does(name: str) -> None:
    torch.manual_seed(0)
    start = [torch.randn(7, 5), torch.randn(5), torch.randn(3)]
    ends = []
    for kind in (OPTIMIZERS[name], PLAIN[name]):
        parameters = [torch.nn.Parameter(tensor.clone()) for tensor in start]
        optimizer = kind(parameters, lr=0.01, weight_decay=0.01)
        draws = torch.Generator().manual_seed(1)
        for _ in range(5):
            for parameter in parameters[:2]:
                parameter.grad = torch.randn(parameter.shape, generator=draws)
            optimizer.step()
        ends.append(torch.cat([parameter.detach().reshape(-1) for parameter in parameters]))
    torch.testing.assert_close(ends[0], ends[1], atol=1e-6, rtol=1e-5)
    assert not torch.equal(ends[0], torch.cat([tensor.reshape(-1) for tensor in start]))

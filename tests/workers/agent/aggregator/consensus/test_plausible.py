import pytest
import torch

from workers.agent.aggregator.consensus.plausible import too_far
from workers.agent.protocol.training import Hyperparameters
from workers.agent.training.local_epochs import OPTIMIZERS

OPTIMIZER_NAMES = sorted(OPTIMIZERS)


def walked(name: str, gradients: list[float]) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], Hyperparameters]:
    wanted = Hyperparameters(batch_size=1, learning_rate=0.01, optimizer=name, weight_decay=0.01)
    parameter = torch.nn.Parameter(torch.ones(5))
    optimizer = OPTIMIZERS[name]([parameter], lr=wanted.learning_rate, weight_decay=wanted.weight_decay)
    for gradient in gradients:
        parameter.grad = torch.full((5,), gradient)
        optimizer.step()
    return {"w": torch.ones(5)}, {"w": parameter.detach()}, wanted


@pytest.mark.parametrize("name", OPTIMIZER_NAMES)
@pytest.mark.parametrize("gradients", [[1.0] * 10, [1e-8] * 200 + [1e3], [0.0, 1e6, -1e6, 0.0], [1e-3, 1e2] * 5])
def test_no_gradients_take_an_optimizer_too_far(name: str, gradients: list[float]) -> None:
    start, end, wanted = walked(name, gradients)
    assert not too_far(start, end, len(gradients), wanted)


@pytest.mark.parametrize("name", sorted({*OPTIMIZER_NAMES} - {"sgd"}))
def test_a_jump_is_too_far(name: str) -> None:
    start, _, wanted = walked(name, [])
    assert too_far(start, {"w": torch.tensor([1.0, 1.0, 1.0, 1.0, 2.5])}, 10, wanted)


def test_no_steps_may_change_nothing() -> None:
    start, _, wanted = walked("adam", [])
    assert not too_far(start, start, 0, wanted)
    assert too_far(start, {"w": torch.full((5,), 1.001)}, 0, wanted)

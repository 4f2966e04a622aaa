"""Distances between states, against fp64 arithmetic over whole tensors."""

import math

import pytest
import torch

from workers.agent.updates.norms import distance


def _exact(state: dict[str, torch.Tensor]) -> float:
    return math.sqrt(sum(float(tensor.double().pow(2).sum()) for tensor in state.values()))


def test_norms_agree_with_fp64_whatever_the_shapes() -> None:
    draw = torch.Generator().manual_seed(0)
    shapes = [(700, 900), (3, 5, 7), (1 << 18,), (1,), (), (0,)]
    base = {str(index): torch.randn(shape, generator=draw) for index, shape in enumerate(shapes)}
    state = {name: tensor + 0.01 * torch.randn(tensor.shape, generator=draw) for name, tensor in base.items()}
    moved, own = distance(state, base)
    assert moved == pytest.approx(_exact({name: state[name] - base[name] for name in base}), rel=2e-4)
    assert own == pytest.approx(_exact(base), rel=2e-4)


def test_equal_states_are_at_distance_zero() -> None:
    base = {"w": torch.full((1000,), 0.1)}
    assert distance(base, base)[0] == 0.0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_one_value_that_is_not_finite_shows(value: float) -> None:
    base = {"w": torch.zeros(1 << 19), "b": torch.zeros(3)}
    state = {name: tensor.clone() for name, tensor in base.items()}
    state["w"][-1] = value
    assert not math.isfinite(distance(state, base)[0])


def test_a_transposed_tensor_is_compared_by_place() -> None:
    wide = torch.arange(6.0).reshape(2, 3)
    assert distance({"w": wide.T}, {"w": wide.T.contiguous()})[0] == 0.0

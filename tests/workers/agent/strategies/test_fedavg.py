import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from workers.agent.strategies.fedavg import FedAvg


def averaged(updates: list[tuple[list[float], int]]) -> torch.Tensor:
    mean = FedAvg()
    for values, samples in updates:
        mean.add({"w": torch.tensor(values)}, samples)
    return mean.result()["w"]


def test_the_mean_is_weighted_by_samples() -> None:
    """(1*100 + 4*300) / 400 = 3.25 and (-2*100 + 2*300) / 400 = 1."""
    mean = FedAvg()
    mean.add({"w": torch.tensor([1.0, -2.0]), "b": torch.tensor(8.0)}, 100)
    mean.add({"w": torch.tensor([4.0, 2.0]), "b": torch.tensor(0.0)}, 300)
    result = mean.result()
    assert result["w"].tolist() == [3.25, 1.0]
    assert result["b"].item() == 2.0
    assert {tensor.dtype for tensor in result.values()} == {torch.float32}


def test_one_update_is_its_own_mean_and_stays_as_it_was() -> None:
    update = torch.rand(50)
    before = update.clone()
    mean = FedAvg()
    mean.add({"w": update}, 7)
    mean.add({"w": update}, 11)
    assert torch.equal(mean.result()["w"], before)
    assert torch.equal(update, before)


def test_nothing_cannot_be_averaged() -> None:
    with pytest.raises(ValueError, match="nothing"):
        FedAvg().result()


update = st.tuples(st.lists(st.floats(-1e6, 1e6, width=32), min_size=3, max_size=3), st.integers(1, 100_000))


@given(st.lists(update, min_size=1, max_size=8), st.randoms())
def test_the_mean_lies_within_its_inputs_and_no_order_changes_it(
    updates: list[tuple[list[float], int]], random: object
) -> None:
    result = averaged(updates)
    inputs = torch.tensor([values for values, _ in updates])
    slack = 1e-6 * (1 + float(inputs.abs().max()))
    assert bool((result >= inputs.amin(0) - slack).all())
    assert bool((result <= inputs.amax(0) + slack).all())
    shuffled = list(updates)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    torch.testing.assert_close(averaged(shuffled), result, atol=slack, rtol=0)


def test_many_small_updates_lose_nothing_to_rounding() -> None:
    """In fp32 the sum would stop growing at 2**24 samples."""
    mean = FedAvg()
    for _ in range(3):
        mean.add({"w": torch.tensor([1.0])}, 2**24)
    for _ in range(1000):
        mean.add({"w": torch.tensor([0.0])}, 1)
    assert mean.result()["w"].item() == pytest.approx(3 * 2**24 / (3 * 2**24 + 1000), abs=1e-7)

"""Compressed updates.

Shapes are exact in both directions, rounding is unbiased, and files are small. Parts that `encode`
cannot have made are refused.
"""

from itertools import product

import pytest
import torch

from workers.agent.protocol.training import Compression
from workers.agent.storage.tensors import State
from workers.agent.updates.compression import codec, quantize, sparsify

WAYS = [
    Compression(values=values, sparse=sparse, ratio=ratio)
    for values, (sparse, ratio) in product(("fp32", "fp16", "int8"), ((False, 1.0), (True, 0.5), (True, 0.01)))
]


def delta() -> State:
    torch.manual_seed(0)
    return {"b": torch.randn(7), "a": torch.randn(40, 33), "c": torch.randn(3, 4, 5), "scalar": torch.tensor([0.5])}


def random() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def shapes(state: State) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in state.items()}


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_what_comes_back_has_the_models_shapes_and_is_near(way: Compression) -> None:
    sent = delta()
    back = codec.decode(codec.encode(sent, way, random()), way, shapes(sent))
    assert shapes(back) == shapes(sent)
    for name, tensor in sent.items():
        kept = back[name] != 0
        torch.testing.assert_close(back[name][kept], tensor[kept], atol=0.04, rtol=0.0)


def test_without_loss_nothing_changes() -> None:
    way, sent = Compression(sparse=True, ratio=1.0), delta()
    back = codec.decode(codec.encode(sent, way, random()), way, shapes(sent))
    assert all(torch.equal(back[name], tensor) for name, tensor in sent.items())


def test_the_largest_are_kept() -> None:
    way = Compression(sparse=True, ratio=0.25)
    back = codec.decode(codec.encode({"a": torch.tensor([0.1, -9.0, 0.3, 4.0, 0.0, 1.0, -0.2, 0.9])}, way, random()), way, {
        "a": torch.Size([8])
    })  # fmt: skip
    assert back["a"].tolist() == [0, -9, 0, 4, 0, 0, 0, 0]


def test_stochastic_rounding_is_right_on_average() -> None:
    values = torch.tensor([[0.3, -1.0, 0.004, 1.0], [0.0, 0.0, 0.0, 0.0]])
    draws = random()
    tries = torch.stack([quantize.from_int8(*quantize.int8(values, draws)) for _ in range(4000)])
    step = 1.0 / 127
    assert float((tries - values).abs().max()) <= step + 1e-6
    torch.testing.assert_close(tries.mean(0), values, atol=5 * step / 4000**0.5, rtol=0.0)


def test_each_channel_has_a_scale_of_its_own() -> None:
    values = torch.tensor([[1000.0, -1000.0], [0.001, 0.0005]])
    back = quantize.from_int8(*quantize.int8(values, random()))
    torch.testing.assert_close(back[1], values[1], atol=0.001 / 127, rtol=0.0)


@pytest.mark.parametrize("ratio", [0.001, 0.02, 0.04, 0.9])
def test_places_come_back_however_they_are_packed(ratio: float) -> None:
    torch.manual_seed(2)
    flat = torch.randn(5001)
    places = sparsify.largest(flat, ratio)
    packed = sparsify.pack(places, len(flat))
    assert torch.equal(sparsify.unpack(packed, len(flat)), places)
    assert packed.nbytes <= min(4 * len(places), len(flat) // 8 + 1)


@pytest.mark.parametrize(
    ("packed", "length"),
    [
        (torch.tensor([5, 4], dtype=torch.int32), 10),
        (torch.tensor([4, 4], dtype=torch.int32), 10),
        (torch.tensor([-1], dtype=torch.int32), 10),
        (torch.tensor([10], dtype=torch.int32), 10),
        (torch.tensor([1], dtype=torch.int64), 10),
        (torch.tensor([[1]], dtype=torch.int32), 10),
        (torch.tensor([255], dtype=torch.uint8), 4),
        (torch.tensor([1, 1, 1], dtype=torch.uint8), 10),
    ],
)
def test_impossible_places_are_refused(packed: torch.Tensor, length: int) -> None:
    with pytest.raises(ValueError, match=r"place|bitmap"):
        sparsify.unpack(packed, length)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_parts_that_do_not_fit_are_refused(way: Compression) -> None:
    sent = delta()
    parts = codec.encode(sent, way, random())
    for name, part in parts.items():
        for wrong in (None, part.to(torch.float64), torch.cat([part.reshape(-1), part.reshape(-1)[:1]])):
            bad = {key: value for key, value in parts.items() if key != name}
            if wrong is not None:
                bad[name] = wrong
            with pytest.raises(ValueError):  # noqa: PT011 - each part is refused in words of its own
                codec.decode(bad, way, shapes(sent))
    with pytest.raises(ValueError):  # noqa: PT011
        codec.decode({**parts, "more": torch.zeros(1)}, way, shapes(sent))

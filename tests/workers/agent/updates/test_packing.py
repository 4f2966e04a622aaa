"""Updates as they travel.

Omitted values are sent later. Frozen parameters are not sent. Invalid updates are refused.
"""

from pathlib import Path

import pytest
import torch

from workers.agent.protocol.training import Compression, TrainReport
from workers.agent.runtime.errors import AgentError
from workers.agent.storage import tensors
from workers.agent.storage.tensors import State
from workers.agent.updates.packing import pack
from workers.agent.updates.validation import validate_update

TOPK = Compression(sparse=True, ratio=0.02)
REPORT = TrainReport(node_id="w1", training_id="t", round=1, state="done", samples=9).model_dump_json()


def model(seed: int) -> State:
    torch.manual_seed(seed)
    return {"embeddings": torch.randn(64, 16), "head": torch.randn(4, 16), "bias": torch.randn(4)}


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def sent(path: Path, parts: State) -> Path:
    tensors.write_parts(path, parts, {"report": REPORT})
    return path


@pytest.mark.parametrize("values", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("sparse", [True, False])
def test_both_sides_see_the_same_model(tmp_path: Path, values: str, sparse: bool) -> None:
    wanted = Compression.model_validate({"values": values, "sparse": sparse, "ratio": 0.1})
    base = model(0)
    packed = pack(model(1), base, {"embeddings"}, wanted, None, random())
    update = validate_update(sent(tmp_path / "u", packed.parts), "w1", base, {"embeddings"}, wanted)
    if not wanted.is_none:
        assert tensors.state_digest(update.state) == tensors.state_digest(packed.state)
    assert torch.equal(update.state["embeddings"], base["embeddings"])
    assert not torch.equal(update.state["head"], base["head"])


def test_what_topk_leaves_out_is_sent_later() -> None:
    """Check error feedback over several rounds.

    The sum of all sent values, plus the last residual, equals the sum of all differences.
    """
    base = {name: torch.zeros_like(tensor) for name, tensor in model(0).items()}
    total = {name: torch.zeros_like(tensor) for name, tensor in base.items()}
    arrived = {name: torch.zeros_like(tensor) for name, tensor in base.items()}
    owed: State | None = None
    for number in range(1, 20):
        update = model(number)
        packed = pack(update, base, (), TOPK, owed, random(number))
        owed = packed.residual
        for name in base:
            total[name] += update[name]
            arrived[name] += packed.state[name]
    assert owed is not None
    for name in base:
        torch.testing.assert_close(arrived[name] + owed[name], total[name], atol=1e-4, rtol=1e-4)
    assert sum(int((tensor != 0).sum()) for tensor in arrived.values()) > 10 * 0.02 * 1092, "each round sent other values"


def test_frozen_parameters_do_not_travel(tmp_path: Path) -> None:
    base = model(0)
    whole = sent(tmp_path / "whole", pack(model(1), base, (), Compression(), None, random()).parts)
    less = sent(tmp_path / "less", pack(model(1), base, {"embeddings"}, Compression(), None, random()).parts)
    assert less.stat().st_size < whole.stat().st_size / 3
    with pytest.raises(AgentError) as caught:
        validate_update(whole, "w1", base, {"embeddings"})
    assert caught.value.code == "wrong_shapes"


@pytest.mark.parametrize(
    ("parts", "code"),
    [
        ({"head": torch.ones(4, 16)}, "wrong_shapes"),
        ({"places": torch.tensor([99_999], dtype=torch.int32), "values": torch.ones(1)}, "wrong_shapes"),
        ({"places": torch.tensor([0, 0], dtype=torch.int32), "values": torch.ones(2)}, "wrong_shapes"),
        ({"places": torch.tensor([0], dtype=torch.int32), "values": torch.ones(2)}, "wrong_shapes"),
        ({"places": torch.tensor([0], dtype=torch.int32), "values": torch.tensor([torch.nan])}, "not_finite"),
        ({"places": torch.tensor([0], dtype=torch.int32), "values": torch.tensor([1e9])}, "norm_exceeded"),
        ({"places": torch.zeros(1_000_000, dtype=torch.int32), "values": torch.ones(1_000_000)}, "wrong_shapes"),
    ],
)
def test_a_malformed_sparse_update_is_refused_at_the_door(tmp_path: Path, parts: State, code: str) -> None:
    with pytest.raises(AgentError) as caught:
        validate_update(sent(tmp_path / "u", parts), "w1", model(0), (), TOPK)
    assert caught.value.code == code

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from workers.agent.runtime.errors import AgentError
from workers.agent.storage.tensors import State
from workers.agent.updates.validation import LARGEST_STEP, validate_update

BASE: State = {"w": torch.full((2, 2), 2.0), "b": torch.zeros(3)}


def report(**fields: Any) -> dict[str, Any]:
    return {"node_id": "w1", "training_id": "t", "round": 1, "state": "done", "samples": 12, **fields}


def moved(**tensors: torch.Tensor) -> State:
    return {**{name: tensor + 0.1 for name, tensor in BASE.items()}, **tensors}


def refused(path: Path, node_id: str = "w1") -> str:
    with pytest.raises(AgentError) as caught:
        validate_update(path, node_id, BASE)
    return caught.value.code


def written(folder: Path, state: State, content: object = None) -> Path:
    path = folder / "update"
    save_file(state, path, {"report": json.dumps(report() if content is None else content)})
    return path


def test_an_honest_update_comes_in_with_its_report(tmp_path: Path) -> None:
    valid_update = validate_update(written(tmp_path, moved()), "w1", BASE)
    assert (valid_update.report.node_id, valid_update.report.samples) == ("w1", 12)
    assert torch.equal(valid_update.state["w"], moved()["w"])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["w", "b"])
def test_one_value_that_is_not_finite_is_refused(tmp_path: Path, name: str, value: float) -> None:
    spoilt = moved()
    spoilt[name].view(-1)[-1] = value
    assert refused(written(tmp_path, spoilt)) == "not_finite"


@pytest.mark.parametrize(
    "state",
    [
        {"w": torch.zeros(2, 2)},
        moved(extra=torch.zeros(1)),
        {"W": torch.zeros(2, 2), "b": torch.zeros(3)},
        moved(w=torch.zeros(4)),
        moved(w=torch.zeros(2, 3)),
        moved(b=torch.zeros(0)),
        {"x": torch.zeros(1)},
    ],
)
def test_names_and_shapes_must_be_the_models(tmp_path: Path, state: State) -> None:
    assert refused(written(tmp_path, state)) == "wrong_shapes"


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.bfloat16, torch.int32])
def test_values_must_be_fp32(tmp_path: Path, dtype: torch.dtype) -> None:
    assert refused(written(tmp_path, moved(w=torch.zeros(2, 2, dtype=dtype)))) == "wrong_shapes"


@pytest.mark.parametrize("samples", [None, 0, -3, 10**15, 10**400])
def test_an_update_must_stand_for_a_believable_number_of_samples(tmp_path: Path, samples: int | None) -> None:
    assert refused(written(tmp_path, moved(), report(samples=samples))) == "no_samples"


def test_an_update_in_anothers_name_is_refused(tmp_path: Path) -> None:
    assert refused(written(tmp_path, moved()), "w2") == "wrong_author"


@pytest.mark.parametrize(
    "content", [{}, [], "x", 3, report(samples="many"), report(unknown=1), {**report(), "node_id": None}, report(state="odd")]
)
def test_a_report_of_another_form_is_refused(tmp_path: Path, content: object) -> None:
    assert refused(written(tmp_path, moved(), content)) == "malformed_update"


@pytest.mark.parametrize("content", [b"", b"x" * 100, b'{"code": "x"}', b"\xff" * 200])
def test_a_file_that_holds_no_tensors_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "update").write_bytes(content)
    assert refused(tmp_path / "update") == "malformed_update"


def test_an_update_without_a_report_is_refused(tmp_path: Path) -> None:
    save_file(moved(), tmp_path / "update")
    assert refused(tmp_path / "update") == "malformed_update"


def test_the_bound_is_ten_times_the_models_own_norm(tmp_path: Path) -> None:
    """The norm of the base is 4, so the largest distance is 40."""
    step = LARGEST_STEP * 4 / 3**0.5
    inside, outside = ({**BASE, "b": torch.full((3,), step * factor)} for factor in (0.999, 1.001))
    assert validate_update(written(tmp_path, inside), "w1", BASE)
    assert refused(written(tmp_path, outside)) == "norm_exceeded"
    assert refused(written(tmp_path, moved(w=torch.full((2, 2), 3e38)))) == "norm_exceeded"


@given(st.binary(max_size=300), st.integers(0, 400))
def test_no_bytes_at_all_get_past_the_door_or_break_it(tmp_path_factory: pytest.TempPathFactory, noise: bytes, at: int) -> None:
    folder = tmp_path_factory.mktemp("noise")
    whole = bytearray(written(folder, moved()).read_bytes())
    whole[at : at + len(noise)] = noise
    (folder / "update").write_bytes(bytes(whole))
    try:
        valid_update = validate_update(folder / "update", "w1", BASE)
    except AgentError:
        return
    assert all(bool(tensor.isfinite().all()) for tensor in valid_update.state.values())
    assert {name: tensor.shape for name, tensor in valid_update.state.items()} == {
        name: tensor.shape for name, tensor in BASE.items()
    }

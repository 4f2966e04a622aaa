import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from workers.agent.storage import tensors


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3, bias=False)
        self.second = nn.Linear(3, 3, bias=False)
        self.second.weight = self.first.weight
        self.register_buffer("steps", torch.zeros(1, dtype=torch.int64))


def state(seed: int = 0) -> tensors.State:
    random = torch.Generator().manual_seed(seed)
    return {"b": torch.randn(3, generator=random), "a": torch.randn(2, 4, generator=random)}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    saved = tensors.write(tmp_path / "new/x.safetensors", state(), {"report": "{}"})
    stored = tensors.read(tmp_path / "new/x.safetensors")
    assert stored.keys() == state().keys()
    assert all(torch.equal(stored[name], state()[name]) for name in stored)
    assert tensors.shapes(tmp_path / "new/x.safetensors") == {"a": (2, 4), "b": (3,)}
    assert tensors.metadata(tmp_path / "new/x.safetensors")["report"] == "{}"
    assert saved.bytes == (tmp_path / "new/x.safetensors").stat().st_size
    assert saved.digest == tensors.file_digest(tmp_path / "new/x.safetensors")


def test_equal_states_give_equal_files(tmp_path: Path) -> None:
    turned = {name: state()[name] for name in ("a", "b")}
    digests = [tensors.write(tmp_path / f"{n}", made).digest for n, made in enumerate((state(), turned))]
    assert digests[0] == digests[1]
    assert tensors.write(tmp_path / "2", state(1)).digest != digests[0]


def test_a_states_digest_follows_its_content_and_not_its_file() -> None:
    digest = tensors.state_digest(state())
    assert digest == tensors.state_digest({name: state()[name] for name in ("a", "b")})
    assert digest == tensors.state_digest({name: tensor.double() for name, tensor in state().items()})
    other = state()
    other["a"][1, 3] += 1e-6
    assert digest != tensors.state_digest(other)
    assert digest != tensors.state_digest({**state(), "a": state()["a"].view(4, 2)})
    assert digest != tensors.state_digest({"b": state()["b"], "A": state()["a"]})


def test_tied_weights_are_written_under_each_name_and_load_again(tmp_path: Path) -> None:
    model, other = Tied(), Tied()
    shared = tensors.state_of(model)
    assert shared.keys() == {"first.weight", "second.weight"}, "whole numbers are not trained"
    tensors.write(tmp_path / "x", shared)
    tensors.load_into(other, tensors.read(tmp_path / "x"))
    assert torch.equal(other.first.weight, model.first.weight)
    assert other.second.weight is other.first.weight


@pytest.mark.parametrize(
    "wrong",
    [
        {"first.weight": torch.zeros(3, 3)},
        {"first.weight": torch.zeros(3, 3), "second.weight": torch.zeros(3, 3), "third": torch.zeros(1)},
        {"first.weight": torch.zeros(3, 3), "second.weight": torch.zeros(4, 4)},
    ],
)
def test_a_state_of_another_model_is_refused(wrong: tensors.State) -> None:
    with pytest.raises((KeyError, RuntimeError)):
        tensors.load_into(Tied(), wrong)


def test_a_write_that_fails_leaves_the_old_file_whole(tmp_path: Path) -> None:
    tensors.write(tmp_path / "x", state())
    before = (tmp_path / "x").read_bytes()
    with pytest.raises(Exception, match=r"."):
        tensors.write(tmp_path / "x", {"a": torch.zeros(2)}, {"report": 3})  # type: ignore[dict-item]
    assert (tmp_path / "x").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_writers_of_one_file_do_not_mix_their_bytes(tmp_path: Path) -> None:
    """Two threads of an agent may publish at once."""
    states = [{"a": torch.full((200_000,), float(number))} for number in range(4)]
    failures: list[BaseException] = []

    def write(own: tensors.State) -> None:
        try:
            for _ in range(15):
                tensors.write(tmp_path / "x", own)
                assert len(set(tensors.read(tmp_path / "x")["a"].tolist())) == 1
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(own,)) for own in states]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 7, b"not tensors at all", b"\xff" * 8 + b"{}", b"\x02" + b"\0" * 7 + b"{}" + b"x" * 9]
)
def test_other_files_are_no_tensors(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    for look in (tensors.shapes, tensors.metadata):
        with pytest.raises(ValueError, match="safetensors"):
            look(tmp_path / "x")


def test_a_file_that_was_cut_off_is_none(tmp_path: Path) -> None:
    tensors.write(tmp_path / "x", state())
    whole = (tmp_path / "x").read_bytes()
    (tmp_path / "x").write_bytes(whole[:-1])
    with pytest.raises(ValueError, match="safetensors"):
        tensors.shapes(tmp_path / "x")


def test_only_fp32_counts(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2, dtype=torch.float16)}, tmp_path / "x")
    with pytest.raises(ValueError, match="fp32"):
        tensors.shapes(tmp_path / "x")

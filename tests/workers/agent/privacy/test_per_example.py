"""Sums of clipped gradients, compared with one backward pass for each example."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.workers.agent.texts import LABELS, samples
from workers.agent.datasets.batches import EncodedTexts
from workers.agent.modeling import freezing
from workers.agent.modeling.network import ARCHITECTURES, Network, build
from workers.agent.privacy.per_example import PerExampleGradients, require_support
from workers.agent.protocol.common import ModelSpec
from workers.agent.runtime.paths import SandboxRoot

_NORM = 0.5


def build_network(architecture: str, tmp_path: Path, **fields: int) -> Network:
    spec = ModelSpec(architecture=architecture, model="base", labels=LABELS, max_length=16, seed=7, **fields)
    return build(spec, SandboxRoot(tmp_path))


def encoded(network: Network) -> EncodedTexts:
    rows = samples(5)
    rows[2]["text"] = "the the the lamp"  # one word twice, and shorter than the others
    return network.encoded([row["text"] for row in rows], [row["sentiment"] for row in rows])


def one_by_one(network: Network, data: EncodedTexts) -> dict[str, torch.Tensor]:
    """Compute each example's gradient alone, scaled to at most _NORM.

    Some norms are above _NORM and some are below.
    """
    total = {name: torch.zeros_like(p) for name, p in network.model.named_parameters() if p.requires_grad}
    norms = []
    for index in range(len(data)):
        network.model.zero_grad()
        batch = np.array([index])
        logits = network.batch_logits(data, batch)
        torch.nn.functional.cross_entropy(logits, data.targets(batch), label_smoothing=network.label_smoothing).backward()
        gradients_of_example = {
            n: p.grad for n, p in network.model.named_parameters() if p.requires_grad and p.grad is not None
        }
        norm = float(torch.sqrt(sum((g.square().sum() for g in gradients_of_example.values()), start=torch.zeros(()))))
        norms.append(norm)
        for name, gradient in gradients_of_example.items():
            total[name] += gradient * min(1.0, _NORM / norm)
    network.model.zero_grad()
    assert max(norms) > _NORM
    return total


def assert_same(network: Network, data: EncodedTexts) -> None:
    gradients = PerExampleGradients(network, _NORM)
    sums = gradients.zeros()
    with gradients.prepared():
        gradients.add(sums, data, np.arange(len(data)))
    expected = one_by_one(network, data)
    assert sums.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.allclose(sums[name], tensor, rtol=1e-3, atol=1e-6), name


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_every_architecture_gives_each_examples_gradient(architecture: str, tmp_path: Path) -> None:
    network = build_network(architecture, tmp_path)
    assert_same(network, encoded(network))


@pytest.mark.parametrize("architecture", ["transformer", "gpt"])
def test_frozen_layers_and_adapters_train_only_what_is_left(architecture: str, tmp_path: Path) -> None:
    network = build_network(architecture, tmp_path)
    with freezing.freeze(network.model, 1):
        assert_same(network, freezing.with_activations(network.model, 1, encoded(network), tmp_path))
    adapted = build_network(architecture, tmp_path, lora_rank=2)
    with freezing.freeze(adapted.model, 0):
        assert_same(adapted, encoded(adapted))


def test_no_example_counts_for_more_than_the_norm(tmp_path: Path) -> None:
    network = build_network("transformer", tmp_path)
    data = encoded(network)
    gradients = PerExampleGradients(network, 1e-3)
    for index in range(len(data)):
        sums = gradients.zeros()
        with gradients.prepared():
            gradients.add(sums, data, np.array([index]))
        norm = torch.sqrt(sum((tensor.square().sum() for tensor in sums.values()), start=torch.zeros(())))
        assert float(norm) == pytest.approx(1e-3, rel=1e-4)


def test_a_gradient_that_is_not_finite_counts_as_zero(tmp_path: Path) -> None:
    network = build_network("cnn", tmp_path)
    data = encoded(network)
    word = int(data.ids[data.offsets[4]])
    alone = [index for index in range(len(data)) if word not in data.ids[data.offsets[index] : data.offsets[index + 1]]]
    gradients = PerExampleGradients(network, _NORM)
    with torch.no_grad():
        next(network.model.parameters())[word] = float("nan")
    sums = gradients.zeros()
    with gradients.prepared():
        gradients.add(sums, data, np.arange(len(data)))
    expected = gradients.zeros()
    with gradients.prepared():
        gradients.add(expected, data, np.array(alone, np.int64)) if alone else None
    assert all(bool(torch.isfinite(tensor).all()) for tensor in sums.values())
    for name, tensor in expected.items():
        torch.testing.assert_close(sums[name], tensor)


def test_a_model_that_cannot_is_found_out(tmp_path: Path) -> None:
    network = build_network("cnn", tmp_path)
    require_support(network)
    dropout: Any = network.model.dropout
    looks_at_values = dropout.register_forward_hook(lambda _m, _i, output: output if output.sum() > 0 else -output)
    with pytest.raises(Exception, match="differential_privacy_unavailable"):
        require_support(network)
    looks_at_values.remove()

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


def network(architecture: str, tmp_path: Path, **fields: int) -> Network:
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
        found = {n: p.grad for n, p in network.model.named_parameters() if p.requires_grad and p.grad is not None}
        norm = float(torch.sqrt(sum((g.square().sum() for g in found.values()), start=torch.zeros(()))))
        norms.append(norm)
        for name, gradient in found.items():
            total[name] += gradient * min(1.0, _NORM / norm)
    network.model.zero_grad()
    assert max(norms) > _NORM
    return total


def assert_same(network: Network, data: EncodedTexts) -> None:
    gradients = PerExampleGradients(network, _NORM)
    found = gradients.zeros()
    with gradients.prepared():
        gradients.add(found, data, np.arange(len(data)))
    expected = one_by_one(network, data)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.allclose(found[name], tensor, rtol=1e-3, atol=1e-6), name


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_every_architecture_gives_each_examples_gradient(architecture: str, tmp_path: Path) -> None:
    made = network(architecture, tmp_path)
    assert_same(made, encoded(made))


@pytest.mark.parametrize("architecture", ["transformer", "gpt"])
def test_frozen_layers_and_adapters_train_only_what_is_left(architecture: str, tmp_path: Path) -> None:
    made = network(architecture, tmp_path)
    with freezing.freeze(made.model, 1):
        assert_same(made, freezing.with_activations(made.model, 1, encoded(made), tmp_path))
    adapted = network(architecture, tmp_path, lora_rank=2)
    with freezing.freeze(adapted.model, 0):
        assert_same(adapted, encoded(adapted))


def test_no_example_counts_for_more_than_the_norm(tmp_path: Path) -> None:
    made = network("transformer", tmp_path)
    data = encoded(made)
    gradients = PerExampleGradients(made, 1e-3)
    for index in range(len(data)):
        found = gradients.zeros()
        with gradients.prepared():
            gradients.add(found, data, np.array([index]))
        norm = torch.sqrt(sum((tensor.square().sum() for tensor in found.values()), start=torch.zeros(())))
        assert float(norm) == pytest.approx(1e-3, rel=1e-4)


def test_a_gradient_that_is_not_finite_counts_as_zero(tmp_path: Path) -> None:
    made = network("cnn", tmp_path)
    data = encoded(made)
    word = int(data.ids[data.offsets[4]])
    alone = [index for index in range(len(data)) if word not in data.ids[data.offsets[index] : data.offsets[index + 1]]]
    gradients = PerExampleGradients(made, _NORM)
    with torch.no_grad():
        next(made.model.parameters())[word] = float("nan")
    found = gradients.zeros()
    with gradients.prepared():
        gradients.add(found, data, np.arange(len(data)))
    expected = gradients.zeros()
    with gradients.prepared():
        gradients.add(expected, data, np.array(alone, np.int64)) if alone else None
    assert all(bool(torch.isfinite(tensor).all()) for tensor in found.values())
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor)


def test_a_model_that_cannot_is_found_out(tmp_path: Path) -> None:
    made = network("cnn", tmp_path)
    require_support(made)
    dropout: Any = made.model.dropout
    looks_at_values = dropout.register_forward_hook(lambda _m, _i, output: output if output.sum() > 0 else -output)
    with pytest.raises(Exception, match="differential_privacy_unavailable"):
        require_support(made)
    looks_at_values.remove()

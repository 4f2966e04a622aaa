"""The linear path of the models from scratch: what it counts, learns and leaves at zero."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.workers.agent.jobs import job
from workers.agent.datasets.batches import EncodedShard
from workers.agent.modeling.hashed_words import CLS, PAD, SEP, UNK, VOCAB_SIZE, word_id
from workers.agent.modeling.held_out_metrics import loss_and_accuracy
from workers.agent.modeling.models.modeling_hashed_words import LinearPath
from workers.agent.modeling.network import ARCHITECTURES, Network, build
from workers.agent.protocol.common import ModelSpec
from workers.agent.protocol.training import Hyperparameters
from workers.agent.runtime.paths import SandboxRoot
from workers.agent.training.local_epochs import train


def build_network(folder: Path, architecture: str = "cnn", max_length: int = 8) -> Network:
    spec = ModelSpec(architecture=architecture, model="base", labels=["negative", "positive"], max_length=max_length)
    return build(spec, SandboxRoot(folder))


def filled(classes: int = 2) -> LinearPath:
    path = LinearPath(VOCAB_SIZE, classes)
    torch.nn.init.normal_(path.table.weight, generator=torch.Generator().manual_seed(1))
    return path


def test_padding_counts_as_nothing_on_either_side() -> None:
    path, text = filled(), [CLS, 10, 11, 12, SEP]
    alone = path(torch.tensor([text]))
    torch.testing.assert_close(path(torch.tensor([[*text, PAD, PAD]])), alone)
    torch.testing.assert_close(path(torch.tensor([[PAD, PAD, *text]])), alone)


def test_an_unknown_word_has_no_weight_of_its_own() -> None:
    path = filled()
    text = torch.tensor([[CLS, 10, UNK, 12, SEP]])
    before = path(text)
    with torch.no_grad():
        path.table.weight[UNK] += 9
    torch.testing.assert_close(path(text), before)


def test_words_and_pairs_count_and_the_order_of_a_pair_too() -> None:
    path = filled()
    one, other, twice = (path(torch.tensor([[CLS, *words, SEP]])) for words in ([10, 11, 12], [12, 11, 10], [10, 11, 10]))
    assert not torch.allclose(one, other)
    assert not torch.allclose(one, twice)


@pytest.mark.parametrize("classes", [2, 8, 9, 60])
def test_each_class_has_a_direction_of_its_own(classes: int) -> None:
    weight = LinearPath(VOCAB_SIZE, classes).output.weight.detach()
    assert weight.shape == (classes, 8)
    directions = torch.nn.functional.normalize(weight, dim=1)
    assert float((directions @ directions.T - torch.eye(classes)).max()) < 0.999


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_it_learns_a_word_that_the_deep_network_never_reads(architecture: str, tmp_path: Path) -> None:
    """The deep network reads 8 tokens. A word in the middle of 40 says the label."""
    network = build_network(tmp_path, architecture)
    around = "the thing that came last week was " * 3
    texts = [f"{around} {word} {noun} {around}" for word in ("great", "awful") for noun in "abcdefghij"]
    labels = ["positive" if "great" in text else "negative" for text in texts]
    data = network.encoded(texts, labels)
    wanted = Hyperparameters(local_epochs=10, batch_size=4, learning_rate=3e-3, optimizer="adam")
    train(network, EncodedShard(data, data), job(wanted))
    assert loss_and_accuracy(network, data)[1] == 1.0


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "rmsprop", "adagrad"])
def test_a_word_of_no_training_text_keeps_a_row_of_zeros(optimizer: Any, tmp_path: Path) -> None:
    network = build_network(tmp_path)
    texts = ["great lamp", "awful lamp"] * 4
    data = network.encoded(texts, ["positive", "negative"] * 4)
    wanted = Hyperparameters(local_epochs=4, batch_size=4, learning_rate=1e-2, optimizer=optimizer, weight_decay=0.1)
    train(network, EncodedShard(data, data), job(wanted))
    model: Any = network.model
    used = model.linear_path.table.weight.abs().sum(1) > 0
    assert bool(used[[word_id(word) for word in ("great", "awful", "lamp")]].all())
    assert int(used[:VOCAB_SIZE].sum()) == 3
    assert int(used[VOCAB_SIZE:].sum()) == 5
    assert np.isfinite(loss_and_accuracy(network, data)[0])

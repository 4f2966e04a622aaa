import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.workers.agent.texts import samples, spec
from workers.agent.modeling.cache import ModelCache
from workers.agent.protocol.data import DataFormat
from workers.agent.runtime.errors import AgentError
from workers.agent.runtime.paths import SandboxRoot
from workers.agent.storage import tensors


@pytest.fixture
def root(tmp_path: Path) -> SandboxRoot:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/train.json").write_text(json.dumps(samples(30)))
    return SandboxRoot(tmp_path)


def test_a_shard_is_read_once_for_a_training_and_anew_for_the_next(root: SandboxRoot) -> None:
    cache = ModelCache(root)
    first = cache.shard(spec(), "/data/train.json")
    assert (len(first.training), len(first.held_out)) == (27, 3)
    (root.folder / "data/train.json").write_text(json.dumps(samples(60)))
    assert cache.shard(spec(), "/data/train.json") is first
    cache.clear_data()
    assert len(cache.shard(spec(), "/data/train.json").training) == 54


def test_another_dataset_or_another_model_is_another_shard(root: SandboxRoot) -> None:
    cache = ModelCache(root)
    (root.folder / "data/other.json").write_text(json.dumps(samples(12)))
    first = cache.shard(spec(), "/data/train.json")
    assert len(cache.shard(spec(), "/data/other.json").training) < len(first.training)
    again = cache.shard(spec(), "/data/train.json")
    assert cache.shard(spec(seed=8), "/data/train.json") is not again
    assert cache.shard(spec(seed=8), "/data/train.json") is cache.shard(spec(seed=8), "/data/train.json")


def test_another_format_is_another_shard(root: SandboxRoot) -> None:
    cache = ModelCache(root)
    rows = [{"text": row["text"], "a": row["sentiment"], "b": "neutral"} for row in samples(30)]
    (root.folder / "data/train.json").write_text(json.dumps(rows))
    by_a, by_b = (cache.shard(spec(), "/data/train.json", data_format=DataFormat(label_field=name)) for name in "ab")
    assert len(set(by_a.training.targets(np.arange(27)).tolist())) > 1
    assert len(set(by_b.training.targets(np.arange(27)).tolist())) == 1


def test_composed_and_decomposed_accents_have_the_same_tokens(root: SandboxRoot) -> None:
    network = ModelCache(root).network(spec())
    composed, decomposed = (network.encoded([text]).ids.tolist() for text in ("caf\u00e9", "cafe\u0301"))
    assert composed == decomposed


def test_validation_data_is_not_split_and_always_read_anew(root: SandboxRoot) -> None:
    cache = ModelCache(root)
    assert len(cache.samples(spec(), "/data/train.json")) == 30
    (root.folder / "data/train.json").write_text(json.dumps(samples(31)))
    assert len(cache.samples(spec(), "/data/train.json")) == 31


def test_one_network_is_kept_and_takes_the_weights_of_a_file(root: SandboxRoot, tmp_path: Path) -> None:
    cache = ModelCache(root)
    network = cache.network(spec())
    assert cache.network(spec()) is network
    zeros = {name: torch.zeros_like(tensor) for name, tensor in tensors.state_of(network.model).items()}
    tensors.write(tmp_path / "zeros", zeros)
    assert cache.load(spec(), tmp_path / "zeros") is network
    assert not any(bool(tensor.any()) for tensor in tensors.state_of(network.model).values())
    assert cache.network(spec(seed=8)) is not network


def test_a_label_that_the_training_does_not_know_is_refused(root: SandboxRoot) -> None:
    with pytest.raises(AgentError) as caught:
        ModelCache(root).shard(spec(labels=["negative", "positive"]), "/data/train.json")
    assert caught.value.code == "unknown_label"

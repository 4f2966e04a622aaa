"""Adapters.

They start without effect, only they are trained, they average exactly, and an export merges them.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.workers.agent.jobs import job
from workers.agent.datasets.batches import EncodedShard
from workers.agent.modeling import freezing
from workers.agent.modeling.cache import ModelCache
from workers.agent.modeling.models import lora
from workers.agent.modeling.network import Network, build
from workers.agent.protocol.common import ModelSpec
from workers.agent.protocol.exports import ExportModel
from workers.agent.protocol.training import Hyperparameters
from workers.agent.runtime.errors import AgentError
from workers.agent.runtime.paths import SandboxRoot
from workers.agent.serving import export, onnx_graph
from workers.agent.storage import tensors
from workers.agent.storage.model_store import ModelStore
from workers.agent.strategies.fedavg import FedAvg
from workers.agent.training.local_epochs import train

TEXTS = [f"the {noun} is {word} and {word}" for word in ("great", "awful") for noun in "abcdefgh"]
LABELS = ["positive" if "great" in text else "negative" for text in TEXTS]


def build_network(architecture: str, rank: int, root: Path) -> Network:
    labels = ["negative", "positive"]
    return build(ModelSpec(architecture=architecture, model="base", labels=labels, lora_rank=rank), SandboxRoot(root))


def logits(network: Network) -> torch.Tensor:
    with torch.inference_mode():
        return network.logits(*network.encoded(TEXTS).batch(np.arange(len(TEXTS))))


@pytest.mark.parametrize("architecture", ["transformer", "gpt", "transformer-xl"])
def test_only_adapters_and_head_are_trained(architecture: str, tmp_path: Path) -> None:
    network, plain = build_network(architecture, 4, tmp_path), build_network(architecture, 0, tmp_path)
    torch.testing.assert_close(logits(network), logits(plain))
    before = {name: tensor.clone() for name, tensor in tensors.state_of(network.model).items()}
    data = network.encoded(TEXTS, LABELS)
    train(
        network,
        EncodedShard(data, data),
        job(Hyperparameters(batch_size=4, learning_rate=1e-2, optimizer="adam", local_epochs=3)),
    )
    after = tensors.state_of(network.model)
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed == before.keys() - freezing.frozen_names(network.model, 0)
    assert any(name.endswith(".up") for name in changed)
    assert not torch.allclose(logits(network), logits(plain), atol=1e-3)
    assert sum(after[name].numel() for name in changed) < 0.02 * sum(tensor.numel() for tensor in after.values())


def test_the_mean_of_adapters_is_the_adapter_of_the_mean_model(tmp_path: Path) -> None:
    network, mean, models = build_network("transformer", 4, tmp_path), FedAvg(), []
    base = {name: tensor.clone() for name, tensor in tensors.state_of(network.model).items()}
    for seed in (1, 2):
        torch.manual_seed(seed)
        moved = {n: t + 0.1 * torch.randn_like(t) if n.endswith(".up") else t.clone() for n, t in base.items()}
        mean.add(moved, 1)
        tensors.load_into(network.model, moved)
        models.append(tensors.state_of(lora.merged(network.model)))
    tensors.load_into(network.model, mean.result())
    for name, tensor in tensors.state_of(lora.merged(network.model)).items():
        torch.testing.assert_close(tensor, (models[0][name] + models[1][name]) / 2, atol=1e-6, rtol=1e-5)


def test_an_export_and_an_onnx_graph_have_them_added_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    from transformers import AutoModelForSequenceClassification

    network, root = build_network("transformer", 4, tmp_path), SandboxRoot(tmp_path)
    with torch.no_grad():
        for name, parameter in network.model.named_parameters():
            if name.endswith(".up"):
                parameter.normal_(std=0.2)
    expected, store = logits(network), ModelStore(root.models)
    digest = store.save("t", tensors.state_of(network.model)).digest
    export.export(
        root, store, ModelCache(root), ExportModel(training_id="t", name="m", model=network.spec, digest=digest, onnx=True)
    )
    ids, mask = network.encoded(TEXTS).batch(np.arange(len(TEXTS)))
    loaded = AutoModelForSequenceClassification.from_pretrained(root.exports / "m", trust_remote_code=True).eval()
    with torch.inference_mode():
        torch.testing.assert_close(loaded(input_ids=ids, attention_mask=mask).logits, expected, atol=1e-5, rtol=1e-4)
    graph = onnx_graph.OnnxGraph(root.exports / "m" / "model.onnx", threads=1)
    np.testing.assert_allclose(graph.run(ids.numpy(), mask.numpy()), expected.numpy(), atol=1e-4)


@pytest.mark.parametrize("architecture", ["rnn", "cnn"])
def test_what_has_no_encoder_matrices_says_so(architecture: str, tmp_path: Path) -> None:
    with pytest.raises(AgentError) as caught:
        build_network(architecture, 4, tmp_path)
    assert caught.value.code == "lora_unavailable"

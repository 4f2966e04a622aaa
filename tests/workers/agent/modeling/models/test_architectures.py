"""All architectures.

They build the same model twice, ignore padding, learn, and export to a usable folder.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.workers.agent.jobs import job
from workers.agent.datasets.batches import EncodedShard
from workers.agent.modeling.cache import ModelCache
from workers.agent.modeling.held_out_metrics import loss_and_accuracy
from workers.agent.modeling.network import ARCHITECTURES, Network, build
from workers.agent.protocol.common import ModelSpec
from workers.agent.protocol.exports import ExportModel
from workers.agent.protocol.training import Hyperparameters
from workers.agent.runtime.errors import AgentError
from workers.agent.runtime.paths import SandboxRoot
from workers.agent.serving import export, onnx_graph
from workers.agent.storage import tensors
from workers.agent.storage.model_store import ModelStore
from workers.agent.training.local_epochs import train

TEXTS = [f"the {noun} is {word} and {word}" for word in ("great", "lovely", "awful", "broken") for noun in "abcdefghij"]
LABELS = ["positive" if "great" in text or "lovely" in text else "negative" for text in TEXTS]


def spec(architecture: str, model: str = "base") -> ModelSpec:
    return ModelSpec(architecture=architecture, model=model, labels=["negative", "positive"], max_length=16)


@pytest.fixture(params=sorted(ARCHITECTURES))
def network(request: pytest.FixtureRequest, tmp_path: Path) -> Network:
    return build(spec(request.param), SandboxRoot(tmp_path))


def test_the_same_spec_gives_the_same_weights(network: Network, tmp_path: Path) -> None:
    again = build(network.spec, SandboxRoot(tmp_path))
    assert tensors.state_digest(tensors.state_of(network.model)) == tensors.state_digest(tensors.state_of(again.model))


def test_large_is_larger_than_base(network: Network, tmp_path: Path) -> None:
    large = build(spec(network.spec.architecture, "large"), SandboxRoot(tmp_path))
    assert sum(p.numel() for p in large.model.parameters()) > 1.5 * sum(p.numel() for p in network.model.parameters())


def test_a_text_is_judged_alike_alone_and_beside_longer_ones(network: Network) -> None:
    texts = ["good", "a much longer text with many words in it", "two words"]
    data = network.encoded(texts)
    together = network.logits(*data.batch(np.arange(3)))
    for index in range(3):
        torch.testing.assert_close(network.logits(*data.batch(np.array([index])))[0], together[index], atol=1e-5, rtol=1e-5)


def test_it_learns(network: Network) -> None:
    data = network.encoded(TEXTS, LABELS)
    before, _ = loss_and_accuracy(network, data)
    wanted = Hyperparameters(local_epochs=8, batch_size=8, learning_rate=3e-3, optimizer="adam")
    train(network, EncodedShard(data, data), job(wanted))
    after, accuracy = loss_and_accuracy(network, data)
    assert after < before
    assert accuracy > 0.9


def test_its_onnx_graph_computes_the_same(network: Network, tmp_path: Path) -> None:
    with torch.no_grad():
        for parameter in network.model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    onnx_graph.write(network, tmp_path / "model.onnx")
    data = network.encoded([*TEXTS, "a text that is longer than what the deep network reads " * 3])
    graph = onnx_graph.OnnxGraph(tmp_path / "model.onnx", threads=1)
    for batch in (np.arange(1), np.arange(7), np.arange(41)):
        ids, mask = data.batch(batch)
        with torch.inference_mode():
            expected = network.logits(ids, mask)
        np.testing.assert_allclose(graph.run(ids.numpy(), mask.numpy()), expected.numpy(), atol=1e-4)


def test_its_export_loads_elsewhere_and_says_the_same(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    root = SandboxRoot(tmp_path)
    store = ModelStore(root.models)
    model: Any = network.model
    with torch.no_grad():
        next(iter(network.model.parameters())).mul_(1.5)
        model.linear_path.table.weight.normal_(std=0.1)
    digest = store.save("train_x", tensors.state_of(network.model)).digest
    export.export(
        root, store, ModelCache(root), ExportModel(training_id="train_x", name="m", model=network.spec, digest=digest)
    )
    folder = root.exports / "m"
    loaded = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    texts = [*TEXTS[::7], "a text that is longer than what the deep network reads " * 3]
    batch = tokenizer(texts, return_tensors="pt", padding=True, truncation=True)
    with torch.inference_mode():
        found = loaded(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        expected = network.logits(*network.encoded(texts).batch(np.arange(len(texts))))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert loaded.config.id2label == {0: "negative", 1: "positive"}
    card = (folder / "README.md").read_text()
    assert 'from_pretrained("m", trust_remote_code=True)\ntokenizer' in card
    code = f"modeling_{network.spec.architecture.replace('-', '_')}.py"
    assert f"runs `{code}` and `tokenization_hashed_words.py` of" in card
    with pytest.raises(ValueError, match="trust_remote_code"):
        AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=False)


@pytest.mark.parametrize("architecture", ["rnn", "cnn"])
def test_a_baseline_has_no_pretrained_weights(architecture: str, tmp_path: Path) -> None:
    with pytest.raises(AgentError) as caught:
        build(spec(architecture, "/models/x"), SandboxRoot(tmp_path))
    assert caught.value.code == "model_unavailable"


def test_an_unknown_architecture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AgentError) as caught:
        build(spec("perceptron"), SandboxRoot(tmp_path))
    assert caught.value.code == "architecture_unavailable"

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.workers.agent.pretrained import save_tiny_bert
from tests.workers.agent.texts import LABELS, spec
from workers.agent.modeling.network import Network, build
from workers.agent.protocol.common import ModelSpec
from workers.agent.runtime.errors import AgentError
from workers.agent.runtime.paths import SandboxRoot
from workers.agent.storage.tensors import state_digest, state_of


@pytest.fixture
def root(tmp_path: Path) -> SandboxRoot:
    (tmp_path / "sandbox").mkdir()
    return SandboxRoot(tmp_path / "sandbox")


def digest(network: Network) -> str:
    return state_digest(state_of(network.model))


def refused(root: SandboxRoot, wanted: ModelSpec) -> AgentError:
    with pytest.raises(AgentError) as caught:
        build(wanted, root)
    return caught.value


def logits(network: Network, texts: Sequence[str]) -> torch.Tensor:
    data = network.encoded(texts)
    with torch.inference_mode():
        return network.logits(*data.batch(torch.arange(len(texts)).numpy()))


def test_the_same_spec_gives_bit_identical_weights_whatever_happens_beside(root: SandboxRoot) -> None:
    expected = digest(build(spec(), root))
    torch.rand(1000)
    assert digest(build(spec(), root)) == expected
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(digest(build(spec(), root)))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 3


def test_building_a_network_leaves_the_global_generator_alone(root: SandboxRoot) -> None:
    torch.manual_seed(5)
    expected = torch.rand(4)
    torch.manual_seed(5)
    build(spec(), root)
    assert torch.equal(torch.rand(4), expected)


def test_another_seed_gives_other_weights(root: SandboxRoot) -> None:
    assert digest(build(spec(seed=1), root)) != digest(build(spec(seed=2), root))


@pytest.mark.parametrize(
    ("model", "layers", "width", "parameters"),
    # Embeddings (16,388 words + 32 positions + 1 type + norm with 2 vectors), layers, pooler, head.
    # Then the linear path: 8 numbers for each word, each bucket of pairs and each class.
    [
        ("base", 2, 128, (16_388 + 32 + 1 + 2) * 128 + 2 * 198_272 + 128 * 129 + 3 * 129 + (16_388 + 65_536 + 3) * 8),
        ("large", 4, 256, (16_388 + 32 + 1 + 2) * 256 + 4 * 789_760 + 256 * 257 + 3 * 257 + (16_388 + 65_536 + 3) * 8),
    ],
)
def test_sizes_are_what_the_readme_says(root: SandboxRoot, model: str, layers: int, width: int, parameters: int) -> None:
    network = build(spec(model), root)
    config: Any = network.model.config
    assert (config.num_hidden_layers, config.hidden_size) == (layers, width)
    assert sum(item.numel() for item in network.model.parameters()) == parameters
    assert config.id2label == dict(enumerate(LABELS))
    assert not network.model.training


def test_texts_become_one_row_of_logits_each_and_padding_changes_none(root: SandboxRoot) -> None:
    network = build(spec(), root)
    alone = logits(network, ["great lamp"])
    together = logits(network, ["great lamp", "an awful and ugly kettle that is broken"])
    assert together.shape == (2, 3)
    torch.testing.assert_close(together[0], alone[0], atol=1e-5, rtol=0)


def test_the_deep_network_reads_to_the_specs_length_and_the_linear_path_reads_on(root: SandboxRoot) -> None:
    network = build(spec(max_length=8), root)
    assert network.encoded(["word " * 50, "word " * 2000]).lengths.tolist() == [52, 1024]
    texts = ["word " * 50 + last for last in ("good", "bad")]
    model: Any = network.model
    good, bad = logits(network, texts)
    assert torch.equal(good, bad), "the linear path is zero before a training"
    with torch.no_grad():
        model.linear_path.table.weight.normal_()
    good, bad = logits(network, texts)
    assert not torch.allclose(good, bad, atol=1e-3)


def test_labels_become_indices_in_the_specs_order(root: SandboxRoot) -> None:
    network = build(spec(), root)
    data = network.encoded(["a", "b"], ["positive", "negative"])
    assert data.targets(torch.arange(2).numpy()).tolist() == [2, 0]
    with pytest.raises(AgentError) as caught:
        network.encoded(["a", "b"], ["positive", "canary-label"])
    assert caught.value.code == "unknown_label"
    assert "1 of 2" in caught.value.message
    assert "canary" not in caught.value.message


@pytest.mark.parametrize("labels", [[], ["one"], ["same", "same"]])
def test_a_classifier_needs_two_distinct_labels(root: SandboxRoot, labels: list[str]) -> None:
    assert refused(root, spec(labels=labels)).code == "bad_labels"


@pytest.mark.parametrize("length", [-1, 0, 2, 513])
def test_a_length_that_the_model_cannot_have_is_refused(root: SandboxRoot, length: int) -> None:
    assert refused(root, spec(max_length=length)).code == "max_length_too_long"


def test_an_architecture_that_nobody_knows_is_refused(root: SandboxRoot) -> None:
    wanted = spec().model_copy(update={"architecture": "perceptron"})
    assert refused(root, wanted).code == "architecture_unavailable"


def test_a_pretrained_encoder_gets_a_head_for_the_trainings_labels(root: SandboxRoot) -> None:
    save_tiny_bert(root.folder / "models/tiny")
    network = build(spec("/models/tiny"), root)
    config: Any = network.model.config
    assert config.id2label == dict(enumerate(LABELS))
    assert logits(network, ["great lamp"]).shape == (1, 3)
    assert digest(build(spec("/models/tiny"), root)) == digest(network), "the new head is drawn from the spec's seed"
    assert digest(build(spec("/models/tiny", seed=8), root)) != digest(network)
    assert network.encode(["great lamp"]).ids[0] == network.tokenizer("great lamp")["input_ids"]
    assert network.encoded(["lamp " * 90]).lengths.tolist() == [32]


def test_a_pretrained_model_keeps_its_weights(root: SandboxRoot) -> None:
    trunk = save_tiny_bert(root.folder / "models/tiny")
    found = state_of(build(spec("/models/tiny"), root).model)
    assert torch.equal(found["bert.encoder.layer.0.output.dense.weight"], trunk["encoder.layer.0.output.dense.weight"])


def test_a_pretrained_model_has_its_own_longest_text(root: SandboxRoot) -> None:
    save_tiny_bert(root.folder / "models/tiny")
    assert refused(root, spec("/models/tiny", max_length=65)).code == "max_length_too_long"


def test_a_model_outside_the_sandbox_is_refused(root: SandboxRoot) -> None:
    save_tiny_bert(root.folder.parent / "outside")
    (root.folder / "link").symlink_to(root.folder.parent / "outside")
    for path in ("/../outside", str(Path("/link")), "/link/../../outside"):
        assert refused(root, spec(path)).code == "path_not_allowed"


def test_a_folder_without_a_usable_model_is_refused_in_words_that_name_no_path(root: SandboxRoot) -> None:
    save_tiny_bert(root.folder / "cut")
    weights = root.folder / "cut/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    save_tiny_bert(root.folder / "garbled")
    (root.folder / "garbled/config.json").write_text("{not json")
    (root.folder / "empty").mkdir()
    for name in ("cut", "garbled", "empty", "nothing"):
        found = refused(root, spec(f"/{name}"))
        assert found.code == "model_unavailable", name
        assert str(root.folder) not in found.message

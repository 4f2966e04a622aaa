import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tests.workers.agent.exporting import export_to, exported
from tests.workers.agent.pretrained import save_tiny_bert
from tests.workers.agent.texts import LABELS, samples, spec
from workers.agent.errors import AgentError
from workers.agent.evaluate import probabilities
from workers.agent.model import build
from workers.agent.onnx_graph import Graph
from workers.agent.paths import Root

TEXTS = [row["text"] for row in samples(20)] + ["great", "a " * 60]


def test_an_export_loads_with_transformers_alone_and_says_the_same(tmp_path: Path) -> None:
    folder = exported(tmp_path)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    assert model.config.id2label == dict(enumerate(LABELS))
    network = build(spec(), Root(tmp_path))
    data = network.encoded(TEXTS)
    ids, mask = data.batch(np.arange(len(TEXTS)))
    with torch.inference_mode():
        found = model(input_ids=ids, attention_mask=mask).logits.softmax(1)
    torch.testing.assert_close(found, probabilities(network, data), atol=1e-5, rtol=0)


def test_the_onnx_graph_gives_torchs_probabilities(tmp_path: Path) -> None:
    folder = exported(tmp_path, onnx=True)
    network = build(spec(), Root(tmp_path))
    data = network.encoded(TEXTS)
    expected = probabilities(network, data)
    graph = Graph(folder / "model.onnx", threads=1)
    torch.testing.assert_close(graph.probabilities(data, 3), expected, atol=1e-4, rtol=0)
    for length in (1, 2, 5):
        part = network.encoded(TEXTS[:length])
        torch.testing.assert_close(graph.probabilities(part, 3), expected[:length], atol=1e-4, rtol=0)


def test_files_are_named_with_their_sizes_and_digests(tmp_path: Path) -> None:
    answer = export_to(tmp_path, spec())
    assert answer.path == "/export/sentiment_v1.0"
    folder = tmp_path / "export/sentiment_v1.0"
    assert [file.path for file in answer.files] == sorted(path.name for path in folder.iterdir())
    assert {"config.json", "model.safetensors", "README.md", "tokenizer_config.json"} <= {file.path for file in answer.files}
    assert "model.onnx" not in {file.path for file in answer.files}
    for file in answer.files:
        content = (folder / file.path).read_bytes()
        assert (file.size, file.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert answer.bytes == sum(file.size for file in answer.files)


def test_the_card_shows_facts_and_what_was_not_measured(tmp_path: Path) -> None:
    facts = {"validation_accuracy": 0.91239, "consensus": None, "workers": ["w1", "w2"], "note": "a|b\nc", "rounds": 4}
    card = (exported(tmp_path, card=facts) / "README.md").read_text()
    for row in ("| validation accuracy | 0.9124 |", "| consensus | not measured |", "| workers | w1, w2 |", "| rounds | 4 |"):
        assert row in card
    assert "| note | a\\|b c |" in card
    assert 'from_pretrained("sentiment_v1.0", trust_remote_code=True)' in card


def test_an_export_replaces_the_folder_of_its_name(tmp_path: Path) -> None:
    folder = exported(tmp_path)
    (folder / "left-over").write_text("x")
    exported(tmp_path)
    assert not (folder / "left-over").exists()
    assert [path.name for path in (tmp_path / "export").iterdir()] == ["sentiment_v1.0"]


def test_an_export_that_fails_leaves_the_one_before_it(tmp_path: Path) -> None:
    folder = exported(tmp_path)
    before = sorted(path.name for path in folder.iterdir())
    with pytest.raises(AgentError) as caught:
        exported(tmp_path, digest="0" * 64)
    assert caught.value.code == "unknown_model"
    assert sorted(path.name for path in folder.iterdir()) == before
    assert [path.name for path in (tmp_path / "export").iterdir()] == ["sentiment_v1.0"]


def test_a_pretrained_models_export_has_its_own_tokenizer_and_needs_no_remote_code(tmp_path: Path) -> None:
    save_tiny_bert(tmp_path / "models/tiny")
    export_to(tmp_path, spec("/models/tiny"))
    folder = tmp_path / "export/sentiment_v1.0"
    assert AutoTokenizer.from_pretrained(folder)("great lamp")["input_ids"] == [2, 22, 12, 3]
    assert AutoModelForSequenceClassification.from_pretrained(folder).config.id2label == dict(enumerate(LABELS))
    assert "trust_remote_code" not in (folder / "README.md").read_text()

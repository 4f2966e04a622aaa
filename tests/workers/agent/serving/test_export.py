import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tests.workers.agent.exporting import export_to, exported
from tests.workers.agent.pretrained import save_tiny_bert
from tests.workers.agent.texts import LABELS, samples, spec
from workers.agent.modeling.held_out_metrics import probabilities
from workers.agent.modeling.network import build
from workers.agent.runtime.errors import AgentError
from workers.agent.runtime.paths import SandboxRoot
from workers.agent.serving import int8_graph
from workers.agent.serving.onnx_graph import OnnxGraph, write

TEXTS = [row["text"] for row in samples(20)] + ["great", "a " * 60]


def test_an_export_loads_with_transformers_and_its_own_code_and_says_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder = exported(tmp_path)
    model = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True).eval()
    assert model.config.id2label == dict(enumerate(LABELS))
    network = build(spec(), SandboxRoot(tmp_path))
    data = network.encoded(TEXTS)
    ids, mask = data.batch(np.arange(len(TEXTS)))
    with torch.inference_mode():
        found = model(input_ids=ids, attention_mask=mask).logits.softmax(1)
    torch.testing.assert_close(found, probabilities(network, data), atol=1e-5, rtol=0)


def test_the_onnx_graph_gives_torchs_probabilities(tmp_path: Path) -> None:
    folder = exported(tmp_path, onnx=True)
    network = build(spec(), SandboxRoot(tmp_path))
    data = network.encoded(TEXTS)
    expected = probabilities(network, data)
    graph = OnnxGraph(folder / "model.onnx", threads=1)
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
    facts = {
        "validation_accuracy": 0.91239,
        "consensus": None,
        "workers": ["w1", "w2"],
        "samples_per_worker": {"w1": 90, "w2": 45},
        "note": "a|b\nc",
        "rounds": 4,
    }
    record = [{"round": 1, "votes_against": 0}, {"round": 2, "votes_against": None}]
    card = (exported(tmp_path, card=facts, record=record, temperature=1.2345) / "README.md").read_text()
    for row in ("| validation accuracy | 0.9124 |", "| consensus | not measured |", "| workers | w1, w2 |", "| rounds | 4 |"):
        assert row in card
    assert "| samples per worker | w1: 90, w2: 45 |" in card
    assert "| note | a\\|b c |" in card
    assert "## Rounds\n\n| round | votes against |\n| --- | --- |\n| 1 | 0 |\n| 2 | not measured |\n" in card
    assert "| temperature | 1.234 |" in card
    assert "softmax(logits / 1.234)" in card
    assert 'from_pretrained("sentiment_v1.0", trust_remote_code=True)' in card
    assert "`trust_remote_code` runs `modeling_transformer.py` and `tokenization_hashed_words.py` of this folder." in card
    assert "onnx" not in card


def test_without_held_out_data_the_card_says_that_confidences_are_not_calibrated(tmp_path: Path) -> None:
    card = (exported(tmp_path) / "README.md").read_text()
    assert "| temperature | not measured |" in card
    assert "Confidences are not calibrated" in card
    assert "## Rounds" not in card


def test_the_int8_graph_is_exported_where_it_agrees_on_the_validation_data(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/validation.json").write_text(json.dumps(samples(200)))
    folder = exported(tmp_path, onnx=True, validation="/data/validation.json")
    whole, small = folder / "model.onnx", folder / "model.int8.onnx"
    assert small.stat().st_size < whole.stat().st_size / 3
    data = build(spec(), SandboxRoot(tmp_path)).encoded([row["text"] for row in samples(200)])
    labels = [OnnxGraph(path, threads=1).probabilities(data, 3).argmax(1) for path in (whole, small)]
    agreement = float((labels[0] == labels[1]).float().mean())
    assert agreement >= 0.99
    card = (folder / "README.md").read_text()
    assert f"| int8 | the same label as fp32 on {agreement:.2%} of 200 held-out texts |" in card
    assert "`model.int8.onnx` is the same with 8-bit weights" in card


def test_without_validation_data_only_the_fp32_graph_is_exported_and_the_card_says_why(tmp_path: Path) -> None:
    folder = exported(tmp_path, onnx=True, validation="/data/none.json")
    assert sorted(path.name for path in folder.glob("*.onnx")) == ["model.onnx"]
    card = (folder / "README.md").read_text()
    assert "| int8 | left out: there are no held-out texts to compare it with fp32 on |" in card
    assert "model.int8.onnx" not in card


def test_an_int8_graph_that_says_something_else_is_left_out(tmp_path: Path) -> None:
    network = build(spec(labels=["no", "yes"]), SandboxRoot(tmp_path))
    # These texts are almost equal, and the head cannot decide. Half of them are on each side of the
    # boundary.
    data = network.encoded(["the lamp " * 8 + f"word{number}" for number in range(200)])
    bias = network.model.get_parameter("classifier.bias")
    with torch.no_grad():
        logits = torch.cat([network.logits(*data.batch(np.arange(at, at + 50))) for at in range(0, 200, 50)])
        bias[1] -= (logits[:, 1] - logits[:, 0]).median()
    write(network, tmp_path / "m.onnx")
    verdict = int8_graph.write(tmp_path / "m.onnx", tmp_path / "m.int8.onnx", data, 2, threads=1)
    assert verdict.agreement is not None
    assert verdict.agreement < 0.99
    assert not verdict.kept
    assert not (tmp_path / "m.int8.onnx").exists()
    assert str(verdict).startswith("left out: the same label as fp32 on ")


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

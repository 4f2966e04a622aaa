"""Where a row's text and label are, and how a refusal describes a row."""

import json
from pathlib import Path

import pytest

from workers.agent.datasets.shards import read
from workers.agent.protocol.data import DataFormat
from workers.agent.runtime.errors import DataError
from workers.agent.runtime.paths import SandboxRoot

CANARY = "canary-4711"


@pytest.fixture
def root(tmp_path: Path) -> SandboxRoot:
    (tmp_path / "data").mkdir()
    return SandboxRoot(tmp_path)


def labels(root: SandboxRoot, rows: list[object], data_format: DataFormat = DataFormat()) -> list[str | None]:
    (root.folder / "data/x.json").write_text(json.dumps(rows))
    return read(root, "/data/x.json", data_format).labels


def refusal(root: SandboxRoot, rows: list[object], data_format: DataFormat = DataFormat()) -> tuple[str, str]:
    with pytest.raises(DataError) as caught:
        labels(root, rows, data_format)
    assert CANARY not in caught.value.message
    return caught.value.code, caught.value.message


@pytest.mark.parametrize("field", ["sentiment", "label", "labels", "category"])
def test_the_usual_label_fields_are_found(root: SandboxRoot, field: str) -> None:
    assert labels(root, [{"text": "a", field: "good"}]) == ["good"]


def test_two_candidates_are_refused_by_name(root: SandboxRoot) -> None:
    rows: list[object] = [{"text": "a", "sentiment": "x"}, {"text": "b", "label": "y"}]
    code, message = refusal(root, rows)
    assert code == "ambiguous_label_field"
    assert "sentiment and label" in message
    assert labels(root, [{"text": "a", "sentiment": "x", "label": "y"}], DataFormat(label_field="label")) == ["y"]


def test_fields_can_be_named(root: SandboxRoot) -> None:
    data_format = DataFormat(text_field="review", label_field="stars")
    assert labels(root, [{"review": "a", "stars": 5, "label": "other"}], data_format) == ["5"]


def test_labels_may_be_words_integers_and_booleans(root: SandboxRoot) -> None:
    rows: list[object] = [{"text": "a", "label": value} for value in (0, 1, True, False, " yes ", 2.0)]
    assert labels(root, rows) == ["0", "1", "true", "false", "yes", "2"]


@pytest.mark.parametrize("names", [["bad", "good"], {"0": "bad", "1": "good"}])
def test_label_names_name_numbers_and_keep_names(root: SandboxRoot, names: list[str] | dict[str, str]) -> None:
    rows: list[object] = [{"text": "a", "label": value} for value in (0, 1, "1", "good")]
    assert labels(root, rows, DataFormat(label_names=names)) == ["bad", "good", "good", "good"]
    code, message = refusal(root, [{"text": "a", "label": 2}], DataFormat(label_names=names))
    assert (code, "label_names" in message) == ("unknown_label", True)


@pytest.mark.parametrize(
    ("row", "code", "words"),
    [
        (
            {"text": CANARY, "sentiment": [CANARY]},
            "label_type",
            "/data/x.json, row 2: sentiment is a list. Found: text (string), sentiment (list). Instead: write one word",
        ),
        ({"text": None, "sentiment": CANARY}, "missing_text", "row 2: text is null. Found: text (null), sentiment (string)"),
        ({"sentiment": CANARY}, "missing_text", "row 2: text is missing. Found: sentiment (string)"),
        ({"text": CANARY, "sentiment": 1.5}, "label_type", "sentiment is a number"),
        ({"text": CANARY, "sentiment": float("nan")}, "unlabelled", "sentiment is NaN"),
        ({"text": CANARY, "sentiment": CANARY * 20}, "label_too_long", "has 220 characters; a label has at most 200"),
        ({f"{CANARY} is a text": 1}, "missing_text", "Found: 1 other field."),
        (CANARY, "missing_text", "row 2: the row is a string, not an object"),
    ],
)
def test_a_refusal_names_the_row_the_fields_and_the_remedy(root: SandboxRoot, row: object, code: str, words: str) -> None:
    found, message = refusal(root, [{"text": "a", "sentiment": "good"}, row])
    assert (found, words in message) == (code, True), message
    assert "1 of 2" in message
    assert "on_bad_rows skip" in message


def test_bad_rows_are_skipped_and_counted(root: SandboxRoot) -> None:
    rows = [{"text": "a", "label": "x"}, {"text": None, "label": "x"}, {"text": "b", "label": []}, {"text": "c", "label": "y"}]
    (root.folder / "data/x.json").write_text(json.dumps(rows))
    samples = read(root, "/data/x.json", DataFormat(on_bad_rows="skip"))
    assert (samples.texts, samples.labels, samples.skipped) == (["a", "c"], ["x", "y"], 2)


def test_a_file_of_bad_rows_only_is_refused_also_with_skip(root: SandboxRoot) -> None:
    assert refusal(root, [{"text": None}], DataFormat(on_bad_rows="skip"))[0] == "missing_text"

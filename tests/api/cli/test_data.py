import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.api.cli.fake_api import run

SMALL = ("--shards", "3", "--samples", "40", "--test", "30", "--validation", "20")


def generate(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert run("data", "generate", *SMALL, *words, "--format", "json") == 0
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_the_walkthroughs_files_are_written_without_a_server(empty_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = generate(capsys)
    shards = [f"customer_feedback_shard_{number}.json" for number in (1, 2, 3)]
    assert list(contents(empty_folder / "data")) == [
        *shards,
        "customer_feedback_test.json",
        "customer_feedback_validation.json",
    ]
    assert {item["path"]: item["samples"] for item in answer["files"]} == {
        "data/customer_feedback_test.json": 30,
        "data/customer_feedback_validation.json": 20,
        **{f"data/{name}": 40 for name in shards},
    }
    texts: list[str] = []
    for name, content in contents(empty_folder / "data").items():
        rows = json.loads(content)
        assert all(row.keys() == {"text", "sentiment"} for row in rows), name
        assert {row["sentiment"] for row in rows} == {"positive", "negative", "neutral"}
        texts += [row["text"] for row in rows]
    assert max(Counter(texts).values()) == 1, "no text is in two files, or twice in one"


def test_a_seed_gives_the_same_bytes_and_another_seed_others(empty_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder, seed in (("a", "5"), ("b", "5"), ("c", "6")):
        generate(capsys, "--out", folder, "--seed", seed)
    assert contents(empty_folder / "a") == contents(empty_folder / "b")
    assert not set(contents(empty_folder / "a").values()) & set(contents(empty_folder / "c").values())


def test_test_and_validation_depend_on_the_seed_alone(empty_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generate(capsys, "--out", "a")
    assert run("data", "generate", *SMALL, "--shards", "1", "--samples", "5", "--out", "b") == 0
    for name in ("test", "validation"):
        file = f"customer_feedback_{name}.json"
        assert (empty_folder / "a" / file).read_bytes() == (empty_folder / "b" / file).read_bytes()


def test_labels_are_clean_where_accuracy_is_measured(empty_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder, noise in (("clean", "0"), ("noisy", "0.5")):
        generate(capsys, "--out", folder, "--label-noise", noise)
    clean, noisy = contents(empty_folder / "clean"), contents(empty_folder / "noisy")
    assert clean["customer_feedback_test.json"] == noisy["customer_feedback_test.json"]
    assert clean["customer_feedback_shard_1.json"] != noisy["customer_feedback_shard_1.json"]


def test_none_of_a_kind_makes_no_file(empty_folder: Path) -> None:
    assert run("data", "generate", "--shards", "1", "--samples", "3", "--test", "0", "--validation", "0", "--prefix", "x") == 0
    assert list(contents(empty_folder / "data")) == ["x_shard_1.json"]


def test_a_folder_that_cannot_be_made_is_one_line(empty_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (empty_folder / "data").write_text("in the way")
    assert run("data", "generate", *SMALL) == 2
    assert capsys.readouterr().err == "error: data cannot be written: File exists\n"

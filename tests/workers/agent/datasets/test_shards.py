import json
from pathlib import Path

import pytest

from workers.agent.datasets.fields import MAX_TEXT_CHARS
from workers.agent.datasets.shards import check, read
from workers.agent.protocol.training import CheckShard
from workers.agent.runtime.errors import DataError
from workers.agent.runtime.paths import SandboxRoot

CANARY = "canary-4711"


@pytest.fixture
def root(tmp_path: Path) -> SandboxRoot:
    (tmp_path / "data").mkdir()
    return SandboxRoot(tmp_path)


def put(root: SandboxRoot, name: str, content: object) -> None:
    body = content if isinstance(content, bytes) else json.dumps(content, ensure_ascii=False).encode()
    (root.folder / "data" / name).write_bytes(body)


def rows(count: int, label: str, start: int = 0) -> list[dict[str, str]]:
    return [{"text": f"{label} text {number}", "sentiment": label} for number in range(start, start + count)]


def problem(root: SandboxRoot, content: object, pattern: str = "/data/*.json") -> DataError:
    put(root, "x.json", content)
    with pytest.raises(DataError) as caught:
        read(root, pattern)
    assert CANARY not in caught.value.message
    return caught.value


def test_an_array_and_lines_hold_the_same(root: SandboxRoot) -> None:
    samples = [*rows(2, "good"), {"text": "façade ☕ — “déjà”", "sentiment": "bad"}]
    put(root, "a.json", samples)
    put(root, "b.jsonl", "\n".join(json.dumps(row, ensure_ascii=False) for row in samples).encode())
    put(root, "c.jsonl", b"\xef\xbb\xbf" + "\r\n\r\n".join(json.dumps(row) for row in samples).encode() + b"\r\n")
    found = [read(root, f"/data/{name}") for name in ("a.json", "b.jsonl", "c.jsonl")]
    assert found[0] == found[1] == found[2]
    assert found[0].texts[2] == "façade ☕ — “déjà”"
    assert found[0].labels == ["good", "good", "bad"]


def test_a_line_ends_at_a_newline_and_nowhere_else(root: SandboxRoot) -> None:
    """JSON allows these characters in a string, but Python's splitlines splits at them."""
    samples = [{"text": f"left{mark}right", "sentiment": "good"} for mark in "\u2028\u2029\x85"]
    put(root, "a.jsonl", "\n".join(json.dumps(row, ensure_ascii=False) for row in samples).encode())
    assert read(root, "/data/a.jsonl").texts == [row["text"] for row in samples]


def test_files_are_read_in_the_order_of_their_names(root: SandboxRoot) -> None:
    put(root, "train_2.json", rows(1, "bad"))
    put(root, "train_1.json", rows(2, "good"))
    found = read(root, "/data/train_*.json")
    assert (found.labels, found.files) == (["good", "good", "bad"], 2)


def test_texts_are_trimmed_and_cut(root: SandboxRoot) -> None:
    put(root, "a.json", [{"text": f"  {'x' * (MAX_TEXT_CHARS + 5)} ", "sentiment": " good\n"}])
    found = read(root, "/data/a.json")
    assert (found.texts, found.labels) == (["x" * MAX_TEXT_CHARS], ["good"])


def test_half_a_surrogate_pair_is_read_as_a_mark(root: SandboxRoot) -> None:
    """JSON allows text that UTF-8 cannot encode.

    Such a text must not break code that sends or hashes it.
    """
    put(root, "a.json", b'[{"text": "so \\ud83d bad", "sentiment": "good"}, {"text": "x", "sentiment": "b\\udc00"}]')
    found = read(root, "/data/a.json")
    assert [text.encode().decode() for text in found.texts] == found.texts
    assert check(root, CheckShard(dataset="/data/a.json"), "w").model_dump_json()


@pytest.mark.parametrize(
    ("content", "code", "place"),
    [
        (b"", "empty", ""),
        (b" \n\t\n", "empty", ""),
        (b"[]", "empty", ""),
        (
            f'[{{"text": "{CANARY}",\n "sentiment" "{CANARY}"}}]'.encode(),
            "unreadable_json",
            "/data/x.json is not valid JSON at line 2",
        ),
        (f'{{"text": "a", "sentiment": "b"}}\n{{"text": "{CANARY}'.encode(), "unreadable_json", "line 2, column"),
        (f"{CANARY}\n".encode(), "unreadable_json", "line 1, column 1"),
        (f'["{CANARY}'.encode() + b"\xff\xfe", "unreadable_json", "not UTF-8 at byte"),
        (b"[" * 100_000, "unreadable_json", "line 1"),
        (b'{"text": "a", "sentiment": "b"}\n' + b"1" * 5000, "unreadable_json", "line 2"),
        ([{"text": CANARY, "sentiment": "a"}, {"sentiment": CANARY}], "missing_text", "1 of 2"),
        ([{"text": "  ", "sentiment": CANARY}, CANARY, 3, None, [CANARY]], "missing_text", "5 of 5"),
        ([{"text": CANARY}, {"text": CANARY, "sentiment": " "}, {"text": CANARY, "sentiment": None}], "unlabelled", "3 of 3"),
    ],
)
def test_problems_are_told_by_place_and_count_and_never_by_content(
    root: SandboxRoot, content: object, code: str, place: str
) -> None:
    found = problem(root, content)
    assert found.code == code
    assert place in found.message


def test_a_shard_of_one_class_is_usable(root: SandboxRoot) -> None:
    """Skew is normal. Whether all workers together have two classes is for the control plane."""
    put(root, "x.json", rows(9, "good"))
    report = check(root, CheckShard(dataset="/data/x.json"), "w1")
    assert (report.labels, report.problem) == ({"good": 9}, None)


def test_a_field_that_differs_in_nearly_every_row_is_no_label(root: SandboxRoot) -> None:
    put(root, "x.json", [{"text": f"text {number}", "label": f"id {number}"} for number in range(10_001)])
    report = check(root, CheckShard(dataset="/data/x.json"), "w1")
    assert report.problem is not None
    assert (report.problem.code, report.labels) == ("too_many_classes", {})


def test_no_matching_file_is_a_problem(root: SandboxRoot) -> None:
    assert problem(root, [], "/data/none_*.json").code == "no_match"


def test_labels_may_be_missing_where_they_are_not_asked_for(root: SandboxRoot) -> None:
    put(root, "x.json", [{"text": "a"}, {"text": "b", "sentiment": "good"}])
    assert read(root, "/data/x.json", labelled=False).labels == [None, "good"]


def test_a_good_shard_is_told_by_counts(root: SandboxRoot) -> None:
    put(root, "x.json", [*rows(3, "good"), *rows(2, "bad")])
    report = check(root, CheckShard(dataset="/data/*.json"), "w1")
    assert (report.node_id, report.files, report.samples, report.labels) == ("w1", 1, 5, {"bad": 2, "good": 3})
    assert report.problem is None


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ([*rows(2, "good"), *rows(1, "bad")], "too_few_samples"),
        ([{"text": "the same", "sentiment": label} for label in "abab"], "too_few_samples"),
        ([{"text": "a"}], "unlabelled"),
        ([], "empty"),
    ],
)
def test_a_shard_that_cannot_be_trained_on_is_refused(root: SandboxRoot, content: object, code: str) -> None:
    put(root, "x.json", content)
    report = check(root, CheckShard(dataset="/data/x.json"), "w1")
    assert report.problem is not None
    assert report.problem.code == code

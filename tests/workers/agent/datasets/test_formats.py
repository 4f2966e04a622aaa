"""The same samples in every format are the same samples."""

import gzip
import io
import json
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from workers.agent.datasets import file_bytes
from workers.agent.datasets import samples as samples_module
from workers.agent.datasets.reading import Reading
from workers.agent.datasets.samples import SampleStream
from workers.agent.datasets.shards import read
from workers.agent.protocol.data import DataFormat
from workers.agent.runtime.errors import DataError, StoppedError
from workers.agent.runtime.paths import SandboxRoot

TEXTS = ["so good, really", 'he said "no"', "two\nlines", "façade ☕"]
LABELS = ["good", "bad", "bad", "good"]
ROWS = [{"text": text, "sentiment": label} for text, label in zip(TEXTS, LABELS, strict=True)]
CSV = 'text,sentiment\n"so good, really",good\n"he said ""no""",bad\n"two\nlines",bad\nfaçade ☕,good\n'
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)
BOM = "\ufeff"


def in_parquet() -> bytes:
    buffer = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), buffer)
    return buffer.getvalue()


def in_zstd(content: bytes) -> bytes:
    compressed: bytes = pyarrow.compress(content, "zstd", asbytes=True)
    return compressed


def columns() -> dict[str, dict[str, str]]:
    return {field: {str(index): row[field] for index, row in enumerate(ROWS)} for field in ("text", "sentiment")}


FORMATS: dict[str, bytes] = {
    "array": json.dumps(ROWS).encode(),
    "lines": LINES.encode(),
    "pretty": json.dumps(ROWS, indent=2).encode(),
    "data": json.dumps({"version": 1, "data": ROWS}, indent=1).encode(),
    "pandas columns": json.dumps(columns()).encode(),
    "pandas index": json.dumps({str(index): row for index, row in enumerate(ROWS)}).encode(),
    "pandas split": json.dumps(
        {"columns": ["text", "sentiment"], "index": [0, 1, 2, 3], "data": [list(row.values()) for row in ROWS]}
    ).encode(),
    "pandas table": json.dumps({"schema": {"fields": []}, "data": ROWS}).encode(),
    "lists": json.dumps({"text": TEXTS, "sentiment": LABELS}).encode(),
    "csv": CSV.encode(),
    "csv of Windows": (BOM + CSV.replace("\n", "\r\n").replace("two\r\nlines", "two\nlines")).encode(),
    "semicolons": CSV.replace(",", ";").replace("good; really", "good, really").encode(),
    "quoted tsv": CSV.replace(",", "\t").replace("good\t really", "good, really").encode(),
    "parquet": in_parquet(),
    "gzip": gzip.compress(LINES.encode()),
    "gzip of csv": gzip.compress(CSV.encode()),
    "two gzip members": gzip.compress(LINES[:60].encode()) + gzip.compress(LINES[60:].encode()),
    "zstd": in_zstd(LINES.encode()),
    "utf-16": LINES.encode("utf-16"),
    "utf-16 without mark": CSV.encode("utf-16-le"),
    "utf-16 big": json.dumps(ROWS, ensure_ascii=False).encode("utf-16-be"),
    "marks between lines": "".join(BOM + json.dumps(row) + "\n" for row in ROWS).encode(),
    "marks without newline": "".join(BOM + json.dumps(row) for row in ROWS).encode(),
    "joined arrays": (json.dumps(ROWS[:2]) + BOM + json.dumps(ROWS[2:])).encode(),
    "joined csv": (BOM + CSV[: CSV.index('"two')] + BOM + "text,sentiment\n" + CSV[CSV.index('"two') :]).encode(),
}


@pytest.fixture
def root(tmp_path: Path) -> SandboxRoot:
    (tmp_path / "data").mkdir()
    return SandboxRoot(tmp_path)


def put(root: SandboxRoot, content: bytes) -> None:
    (root.folder / "data/x").write_bytes(content)


def refusal(root: SandboxRoot, content: bytes) -> DataError:
    put(root, content)
    with pytest.raises(DataError) as caught:
        read(root, "/data/x")
    return caught.value


@pytest.mark.parametrize("content", FORMATS.values(), ids=FORMATS.keys())
def test_every_format_holds_the_same_samples(root: SandboxRoot, content: bytes) -> None:
    put(root, content)
    samples = read(root, "/data/x")
    assert (samples.texts, samples.labels) == (TEXTS, LABELS)


def test_unquoted_tsv_may_hold_quotes(root: SandboxRoot) -> None:
    put(root, b'text\tlabel\n"open\tgood\n5" wide\tbad\n')
    samples = read(root, "/data/x")
    assert (samples.texts, samples.labels) == (['"open', '5" wide'], ["good", "bad"])


def test_composed_and_decomposed_accents_are_the_same_text(root: SandboxRoot) -> None:
    put(root, json.dumps([{"text": text, "label": "é"} for text in ("caf\u00e9", "cafe\u0301")]).encode())
    assert read(root, "/data/x").texts == ["caf\u00e9"] * 2


def test_nul_is_replaced(root: SandboxRoot) -> None:
    put(root, b'[{"text": "a\\u0000b", "label": "x\\u0000"}]')
    samples = read(root, "/data/x")
    assert (samples.texts, samples.labels) == (["a\ufffdb"], ["x\ufffd"])


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        (b"PK\x03\x04rest", "unreadable_file", "ZIP archive"),
        (b"BZh91AY", "unreadable_file", "bzip2"),
        (gzip.compress(b"x" * 100, mtime=0)[:-9], "unreadable_file", "broken gzip"),
        (in_zstd(b"x" * 100)[:-3], "unreadable_file", "broken zstd"),
        (in_parquet()[:-9], "unreadable_file", "broken Parquet"),
        (b"text,label\nfine,good\nno, quotes, here\n", "unreadable_table", "line 3: the row has 3 cells, and the header has 2"),
        (b'text,label\n"open,good\nfine,bad\n', "unreadable_table", "line 2: a quote is not closed"),
        (b"secretword,good\nother,bad\n", "missing_text", "line 1: none of the 2 columns is named 'text'"),
    ],
)
def test_what_cannot_be_read_is_refused_by_its_place(root: SandboxRoot, content: bytes, code: str, words: str) -> None:
    problem = refusal(root, content)
    assert (problem.code, words in problem.message) == (code, True), problem.message
    assert "secretword" not in problem.message


def test_a_small_file_that_unpacks_to_a_huge_one_is_refused(root: SandboxRoot) -> None:
    problem = refusal(SandboxRoot(root.folder, largest_file=10_000), gzip.compress(b" " * 20_000))
    assert (problem.code, "10000 bytes (limit: file size)" in problem.message) == ("file_too_large", True)


@pytest.mark.parametrize("content", FORMATS.values(), ids=FORMATS.keys())
@pytest.mark.parametrize("size", [4, 7])
def test_the_size_of_a_piece_changes_nothing(
    root: SandboxRoot, content: bytes, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_bytes, "_PIECE", size)
    put(root, content)
    samples = read(root, "/data/x")
    assert (samples.texts, samples.labels) == (TEXTS, LABELS)


@pytest.mark.parametrize("size", [5, 2**20])
@pytest.mark.parametrize(
    ("content", "place"),
    [
        (b'[{"text": "a"},\n\n {"text" "b"}]', "line 3, column 10"),
        (b'[{"text": "a"}, {"text": "b"}, ]', "line 1, column 32"),
        (b'[{"text": "a"}, {"text": "b"', "line 1, column 29"),
        (b'[{"text": "a"}\n{"text": "b"}]', "line 2, column 1"),
        (b'{"text": "a"}\n{"text": "b", "label": tru}\nx', "line 2, column 24"),
        ("é".encode() * 7 + b"\xff", "byte 14"),
        ('["é", "'.encode("utf-16-le") + b"\x00\xd8\x00\x00", "byte 14"),
    ],
)
def test_the_place_of_an_error_does_not_depend_on_pieces(
    root: SandboxRoot, content: bytes, place: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_bytes, "_PIECE", size)
    assert f"{place}" in refusal(root, content).message


@pytest.mark.parametrize("name", ["data", "pandas columns", "pandas index", "pandas split", "lists", "line"])
def test_what_is_parsed_at_once_is_limited_by_the_memory(root: SandboxRoot, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_bytes, "_PIECE", 16)
    monkeypatch.setattr(samples_module, "most_in_memory", lambda: 20)
    long_line = b"text,label\n" + b"a word " * 20 + b",good\n"
    problem = refusal(root, long_line if name == "line" else FORMATS[name])
    assert (problem.code, "20 bytes (limit: memory)" in problem.message) == ("file_too_large", True), problem.message


@pytest.mark.parametrize("name", ["data", "pandas split", "pandas table"])
def test_the_rows_of_an_object_may_be_larger_than_the_memory(
    root: SandboxRoot, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_bytes, "_PIECE", 16)
    put(root, FORMATS[name])
    whole = read(root, "/data/x", DataFormat())
    monkeypatch.setattr(samples_module, "most_in_memory", lambda: len(FORMATS[name]) // 2)
    assert read(root, "/data/x", DataFormat()).texts == whole.texts
    assert refusal(root, FORMATS[name].rstrip(b"}] \n")).code == "unreadable_json"


def test_reading_tells_how_far_it_is_and_can_be_stopped(root: SandboxRoot) -> None:
    put(root, LINES.encode() * 40_000)
    reading = Reading()
    samples = iter(SampleStream(root, "/data/x", reading=reading))
    for _ in range(10_000):
        next(samples)
    assert reading.bytes_total == 40_000 * len(LINES.encode())
    assert 0 < reading.bytes_read < reading.bytes_total / 4
    reading.stop.set()
    with pytest.raises(StoppedError):
        list(samples)


def test_a_broken_line_can_be_skipped(root: SandboxRoot) -> None:
    put(root, b'{"text": "a", "label": "x"}\n{"text": "b", "lab\n{"text": "c", "label": "y"}\n')
    samples = read(root, "/data/x", DataFormat(on_bad_rows="skip"))
    assert (samples.texts, samples.skipped) == (["a", "c"], 1)

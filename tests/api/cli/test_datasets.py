"""`flow-nexus data check` and `data split` on files as people have them."""

import codecs
import gzip
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from tests.api.cli.fake_api import run

ROWS = [{"text": f"text {n}", "sentiment": "good" if n % 3 else "bad", "site": f"s{n % 2}"} for n in range(30)]
ARRAY = json.dumps(ROWS)
LINES = "\n".join(map(json.dumps, ROWS))
CSV = "text,sentiment,site\r\n" + "".join(f'"text {n}",{row["sentiment"]},{row["site"]}\r\n' for n, row in enumerate(ROWS))
COLUMNS = json.dumps({name: {str(n): row[name] for n, row in enumerate(ROWS)} for name in ROWS[0]})


def parquet(rows: list[dict[str, Any]]) -> bytes:
    content = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), content)
    return content.getvalue()


def zstd(content: bytes) -> bytes:
    packed: bytes = pyarrow.compress(content, "zstd", asbytes=True)
    return packed


def checked(capsys: pytest.CaptureFixture[str], content: str | bytes, *options: str, code: int = 0) -> dict[str, Any]:
    path = Path("file")
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert run("data", "check", str(path), *options, "--format", "json") == code
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    return report


def refused(capsys: pytest.CaptureFixture[str], content: str | bytes, *options: str) -> str:
    path = Path("file")
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert run("data", "check", str(path), *options) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "form"),
    [
        (ARRAY, "JSON array"),
        (codecs.BOM_UTF8 + ARRAY.encode(), "JSON array"),
        (codecs.BOM_UTF16_LE + ARRAY.encode("utf-16-le"), "JSON array"),
        (LINES, "JSON Lines"),
        (LINES + "\n\n", "JSON Lines"),
        (json.dumps({"data": ROWS}), "JSON object with rows"),
        (json.dumps({"schema": {}, "data": ROWS}), "JSON object with rows"),
        (json.dumps({"columns": list(ROWS[0]), "data": [list(row.values()) for row in ROWS]}), "JSON object with rows"),
        (json.dumps({str(n): row for n, row in enumerate(ROWS)}), "JSON object with rows"),
        (json.dumps({name: [row[name] for row in ROWS] for name in ROWS[0]}), "JSON columns"),
        (COLUMNS, "JSON columns"),
        (CSV, "CSV"),
        (CSV.replace(",", ";"), "CSV"),
        (CSV.replace(",", "|"), "CSV"),
        (CSV.replace(",", "\t"), "TSV"),
        (CSV.replace(",", "\t").replace('"text 1"', 'text 1"'), "TSV"),
        (CSV.encode("utf-16"), "CSV"),
        (CSV.encode("utf-16-le"), "CSV"),
        (gzip.compress(CSV.encode(), mtime=0), "CSV"),
        (zstd(LINES.encode()), "JSON Lines"),
        (parquet(ROWS), "Parquet"),
        (gzip.compress(parquet(ROWS), mtime=0), "Parquet"),
    ],
)
def test_a_file_is_known_by_its_content(
    empty_folder: Path, capsys: pytest.CaptureFixture[str], content: str | bytes, form: str
) -> None:
    report = checked(capsys, content)
    assert (report["format"], report["rows"], report["usable_rows"]) == (form, 30, 30)
    assert (report["text_field"], report["label_field"]) == ("text", "sentiment")
    assert report["labels"] == {"bad": 10, "good": 20}
    assert (report["problems"], report["notices"]) == ([], [])


@pytest.mark.parametrize("name", ["sentiment", "label", "labels", "category"])
def test_the_label_field_is_found(empty_folder: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    content = json.dumps([{"text": "a", name: 0}, {"text": "b", name: True}, {"text": "c", name: "x"}])
    assert checked(capsys, content)["labels"] == {"0": 1, "true": 1, "x": 1}


def test_fields_can_be_named(empty_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = "review,stars\nnice,5\nbad,1\n"
    assert checked(capsys, content, "--text-field", "review", "--label-field", "stars")["labels"] == {"1": 1, "5": 1}
    assert "its fields are review, stars" in refused(capsys, content)
    assert "sentiment, label" in refused(capsys, json.dumps([{"text": "a", "label": "x", "sentiment": "y"}]))


def test_problems_are_named_by_their_place_and_show_no_value(empty_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows: list[dict[str, Any]] = [*ROWS]
    rows[1] = {"text": "secret"}
    rows[2] = {"text": None, "sentiment": "good"}
    rows[3] = {"text": " ", "sentiment": "good"}
    rows[4] = {"text": "secret", "sentiment": ["secret"]}
    rows[5] = {"text": "a\x00b", "sentiment": "x" * 201}
    report = checked(capsys, json.dumps(rows), code=1)
    assert report["problems"] == [
        "row 2: there is no sentiment",
        "row 3: there is no text",
        "row 4: text is blank",
        "row 5: sentiment is a list; one word is wanted",
        "row 6: text has a NUL character",
        "row 6: sentiment has more than 200 characters",
    ]
    assert report["usable_rows"] == 25
    assert "secret" not in str(report)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (CSV + "secret\r\n", "line 32: there are not 3 columns, as in the first line"),
        (CSV.replace('"text 3"', '"text\n3"') + "a,b,secret,d\r\n", "line 33: there are not 3 columns, as in the first line"),
        (LINES + '\n{"text": secret}', "line 31: not valid JSON (Expecting value) at column 10"),
        (LINES + '\n["secret"]', "line 31: a list; an object with a text and a label is wanted"),
    ],
)
def test_one_bad_row_is_a_problem_of_that_row(
    empty_folder: Path, capsys: pytest.CaptureFixture[str], content: str, problem: str
) -> None:
    report = checked(capsys, content, code=1)
    assert (report["problems"], report["usable_rows"]) == ([problem], 30)


def test_texts_may_have_quoted_line_ends(empty_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").write_text('text,label\n"two\nlines, and ""quotes""",x\nother,y\n')
    assert run("data", "split", "file", "--shards", "1", "--format", "json") == 0
    texts = {row["text"] for row in json.loads(Path("data/train_1.json").read_text())}
    assert texts == {'two\nlines, and "quotes"', "other"}


def test_what_is_odd_is_noticed(empty_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"text": "a", "label": "Good"}, {"text": "a", "label": "good"}]
    notices = checked(capsys, json.dumps(rows))["notices"]
    assert any("Good, good" in notice for notice in notices)
    assert "1 texts repeat an earlier one" in notices
    (alone,) = checked(capsys, json.dumps(rows[:1]))["notices"]
    assert "one label" in alone


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ('[{"text": "secret"},\n {"text" "secret"}]', "line 2, column 10"),
        ('{"text": secret}\n{"text": secret}\n', "line 1: not valid JSON (Expecting value) at column 10"),
        ("[1]", "row 1: a number; an object"),
        (b"PAR1secret", "broken Parquet"),
        (gzip.compress(b"secret", mtime=0)[:-4], "broken gzip"),
        (b"\x28\xb5\x2f\xfdsecret", "broken zstd"),
        (b"PK\x03\x04secret", "spreadsheet"),
        (b"\xffsecret", "byte 1 is not UTF-8"),
        ('text,label\n"secret,x\n', "line"),
        ("text,label\nsecret\n", "line 2: there are not 2 columns"),
        ("secret", "at least two columns"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_by_its_place(
    empty_folder: Path, capsys: pytest.CaptureFixture[str], content: str | bytes, message: str
) -> None:
    error = refused(capsys, content)
    assert message in error
    assert "secret" not in error


def test_a_text_is_not_in_training_and_test(empty_folder: Path) -> None:
    rows = [{"text": f"text {n % 10}", "label": "a" if n % 10 < 5 else "b"} for n in range(40)]
    Path("file").write_text(json.dumps(rows))
    assert run("data", "split", "file", "--shards", "1", "--test", "0.1") == 0
    train, test = ({row["text"] for row in json.loads(Path(f"data/{name}.json").read_text())} for name in ("train_1", "test"))
    assert test
    assert not train & test


def split(capsys: pytest.CaptureFixture[str], *options: str) -> list[list[dict[str, str]]]:
    Path("file").write_text(ARRAY)
    assert run("data", "split", "file", *options, "--format", "json") == 0
    files = json.loads(capsys.readouterr().out)["files"]
    parts = [json.loads(Path(file["path"]).read_text()) for file in files]
    assert [file["samples"] for file in files] == [len(part) for part in parts]
    assert sorted(row["text"] for part in parts for row in part) == sorted(row["text"] for row in ROWS)
    return parts


def labels(part: list[dict[str, str]]) -> Counter[str]:
    return Counter(row["sentiment"] for row in part)


def test_shards_are_alike(empty_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts = split(capsys, "--shards", "5")
    assert [labels(part) for part in parts] == [{"bad": 2, "good": 4}] * 5
    assert split(capsys, "--shards", "5") == parts
    assert split(capsys, "--shards", "5", "--seed", "1") != parts


def test_a_test_file_has_a_share_of_each_label(empty_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    *parts, test = split(capsys, "--shards", "2", "--test", "0.2")
    assert labels(test) == {"bad": 2, "good": 4}
    assert [len(part) for part in parts] == [12, 12]


def test_skewed_shards_differ_and_none_is_empty(empty_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(5):
        parts = split(capsys, "--shards", "6", "--skew", "0.1", "--seed", str(seed))
        assert all(parts)
        assert len({tuple(sorted(labels(part).items())) for part in parts}) > 1


def test_one_file_for_each_value_of_a_column(empty_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = split(capsys, "--site-column", "site")
    assert {int(row["text"].split()[1]) % 2 for row in first} == {0}
    assert {int(row["text"].split()[1]) % 2 for row in second} == {1}


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--shards", "2", "--site-column", "site"),
        ("--site-column", "site", "--skew", "1"),
        ("--site-column", "nothing"),
        ("--shards", "31"),
    ],
)
def test_a_split_that_makes_no_sense_is_refused(
    empty_folder: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...]
) -> None:
    Path("file").write_text(ARRAY)
    assert run("data", "split", "file", *options) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert not Path("data").exists()


def test_bad_rows_are_left_out_when_asked(empty_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").write_text(json.dumps([*ROWS, {"text": "a"}]))
    assert run("data", "split", "file", "--shards", "2") == 2
    assert "row 31" in capsys.readouterr().err
    assert run("data", "split", "file", "--shards", "2", "--skip-bad-rows", "--format", "json") == 0
    assert json.loads(capsys.readouterr().out)["skipped_rows"] == 1

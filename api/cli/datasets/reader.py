"""Read a file of labelled texts: a JSON array, JSON Lines, CSV or TSV, recognised by its
content.
"""

import codecs
import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from api.cli.errors import UsageError

Format = Literal["JSON array", "JSON object with data", "JSON columns", "JSON Lines", "CSV", "TSV"]
_MARKS: Final = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_LARGEST_CELL: Final = 10_000_000


@dataclass(frozen=True, slots=True)
class FileRow:
    """One sample. `place` is where the file has it: `row 3` or `line 3`, from 1."""

    place: str
    fields: dict[str, object]


@dataclass(frozen=True, slots=True)
class Table:
    path: Path
    format: Format
    rows: list[FileRow]


def read(path: Path) -> Table:
    """Return the rows of a file.

    Raises:
        UsageError: The file cannot be read. The message names the place and shows no value.
    """
    try:
        text = _decoded(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: byte {error.start + 1} is not UTF-8; save the file as UTF-8") from None
    start = text.lstrip()[:1]
    if not start:
        raise UsageError(f"{path} is empty")
    if start == "[":
        return Table(path, "JSON array", _items(path, _json(path, text)))
    if start == "{":
        return _objects(path, text)
    delimiter = "\t" if "\t" in text.split("\n", 1)[0] else ","
    return Table(path, "TSV" if delimiter == "\t" else "CSV", list(_cells(path, text, delimiter)))


def _decoded(content: bytes) -> str:
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return content[len(mark) :].decode(encoding)
    return content.decode()


def _objects(path: Path, text: str) -> Table:
    """Read JSON Lines, one object whose field `data` has the rows, or columns as pandas writes
    them.
    """
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        return Table(path, "JSON Lines", list(_lines(path, text)))
    if isinstance(whole.get("data"), list):  # untyped: the user's file
        return Table(path, "JSON object with data", _items(path, whole["data"]))  # untyped: the user's file
    columns = list(whole.values())
    if columns and all(isinstance(column, dict) and column.keys() == columns[0].keys() for column in columns):
        keys = list(columns[0])
        rows = [FileRow(f"row {number}", {name: whole[name][key] for name in whole}) for number, key in enumerate(keys, 1)]
        return Table(path, "JSON columns", rows)
    return Table(path, "JSON Lines", [FileRow("line 1", whole)])


def _lines(path: Path, text: str) -> Iterator[FileRow]:
    # Only a line feed ends a line: JSON may have other line separators inside a text.
    for number, line in enumerate(text.split("\n"), 1):
        if content := line.strip("\ufeff \t\r"):
            value = _json(path, content, number)
            if not isinstance(value, dict):
                raise UsageError(f"{path}: line {number} is {kind(value)}; an object is wanted")
            yield FileRow(f"line {number}", value)


def _items(path: Path, items: object) -> list[FileRow]:
    assert isinstance(items, list)
    rows = []
    for number, item in enumerate(items, 1):
        if not isinstance(item, dict):
            raise UsageError(f"{path}: row {number} is {kind(item)}; an object with a text and a label is wanted")
        rows.append(FileRow(f"row {number}", item))
    return rows


def _cells(path: Path, text: str, delimiter: str) -> Iterator[FileRow]:
    csv.field_size_limit(_LARGEST_CELL)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        names = reader.fieldnames or []
        if len(set(names)) < len(names) or len(names) < 2:
            raise UsageError(f"{path}: the first line must name at least two columns, each once")
        for row in reader:
            if None in row or None in row.values():
                raise UsageError(f"{path}: line {reader.line_num} does not have {len(names)} columns as the first line has")
            yield FileRow(f"line {reader.line_num}", dict(row))
    except csv.Error as error:
        raise UsageError(f"{path}: line {reader.line_num}: {error}") from None


def _json(path: Path, text: str, line: int | None = None) -> object:
    position: Callable[[json.JSONDecodeError], int] = lambda error: error.lineno if line is None else line  # noqa: E731
    try:
        value: object = json.loads(text)
    except json.JSONDecodeError as error:
        raise UsageError(f"{path}: line {position(error)}, column {error.colno}: not valid JSON: {error.msg}") from None
    except (ValueError, RecursionError):
        raise UsageError(f"{path}: not valid JSON: a number is too long, or it is nested too deeply") from None
    return value


def kind(value: object) -> str:
    """Return the name of a JSON value's type."""
    names = {str: "a string", bool: "a boolean", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return names.get(type(value), "null")

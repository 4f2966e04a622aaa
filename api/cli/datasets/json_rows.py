"""The rows of JSON: an array, JSON Lines, `{"data": [...]}`, or what pandas' `to_json` writes."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from api.cli.datasets.rows import FileRow, Table, kind
from api.cli.errors import UsageError


def array(path: Path, text: str) -> Table:
    """Return the rows of a JSON array.

    Raises:
        UsageError: The text is not JSON. The message names the place.
    """
    try:
        return Table(path, "JSON array", _items(json.loads(text)))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: {_mistake(error)}") from None


def objects(path: Path, text: str, text_field: str) -> Table:
    """Return the rows of JSON Lines, or of one object that holds a whole table."""
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        return Table(path, "JSON Lines", list(_lines(text)))
    data, columns = whole.get("data"), whole.get("columns")  # untyped: the user's file
    if isinstance(data, list):
        if isinstance(columns, list):  # pandas' orientation "split"
            data = [dict(zip(columns, cells, strict=False)) if isinstance(cells, list) else cells for cells in data]
        return Table(path, "JSON object with rows", _items(data))
    parts = list(whole.values())
    if parts and all(isinstance(part, dict) for part in parts):
        if _is_by_row(whole, parts, text_field):
            return Table(path, "JSON object with rows", _items(parts))
        rows = [{name: column[key] for name, column in whole.items() if key in column} for key in parts[0]]
        return Table(path, "JSON columns", _items(rows))
    if len(parts) > 1 and all(isinstance(part, list) and len(part) == len(parts[0]) for part in parts):
        return Table(path, "JSON columns", _items([dict(zip(whole, cells, strict=True)) for cells in zip(*parts, strict=True)]))
    return Table(path, "JSON Lines", [FileRow("line 1", whole)])


def _is_by_row(whole: dict[str, Any], parts: list[dict[str, Any]], text_field: str) -> bool:
    """Return whether an object of objects maps an index to rows, not names to columns."""
    if text_field in whole or text_field in parts[0]:
        return text_field not in whole
    return all(key.isdecimal() for key in whole)


def _lines(text: str) -> Iterator[FileRow]:
    # Only a line feed ends a line: JSON may have other line separators inside a text.
    for number, line in enumerate(text.split("\n"), 1):
        if content := line.strip(" \t\r"):
            try:
                value: object = json.loads(content)
            except (ValueError, RecursionError) as error:
                yield FileRow(f"line {number}", problem=_line_mistake(error))
                continue
            yield _row(f"line {number}", value)


def _items(items: Iterable[object]) -> list[FileRow]:
    return [_row(f"row {number}", item) for number, item in enumerate(items, 1)]


def _row(place: str, value: object) -> FileRow:
    if isinstance(value, dict):
        return FileRow(place, value)
    return FileRow(place, problem=f"{kind(value)}; an object with a text and a label is wanted")


def _mistake(error: Exception) -> str:
    place = f"line {error.lineno}, column {error.colno}: " if isinstance(error, json.JSONDecodeError) else ""
    return f"{place}{_reason(error)}"


def _line_mistake(error: Exception) -> str:
    return f"{_reason(error)} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else _reason(error)


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"not valid JSON ({error.msg})"
    return "not valid JSON: a number is too long, or it is nested too deeply"

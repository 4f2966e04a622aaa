"""The rows of JSON: an array, JSON Lines, `{"data": [...]}`, or what pandas' `to_json` writes."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from workers.agent.datasets.rows import Row, RowProblem
from workers.agent.runtime.errors import DataError

_SPACE: Final = re.compile(r"[ \t\n\r]*")
_DECODER: Final = json.JSONDecoder()


def json_rows(content: str, name: str, text_field: str) -> Iterator[Row]:
    """Yield the rows of all JSON values in `content`.

    Several values may follow each other, because joined files have them so.

    Raises:
        DataError: `unreadable_json`, where the reader cannot continue at the next line.
    """
    count = 0
    for line, value in _values(content, name):
        if isinstance(value, RowProblem):
            yield Row("line", line, problem=value)
            continue
        table = value if isinstance(value, list) else _table(value, text_field)
        if table is None:
            yield Row("line", line, value)
            continue
        for element in table:
            count += 1
            yield Row("row", count, element)


def _values(content: str, name: str) -> Iterator[tuple[int, object]]:
    """Yield (line, value) for each JSON value. A line that is not JSON gives its problem."""
    position, counted, line = _after_space(content, 0), 0, 1
    while position < len(content):
        line, counted = line + content.count("\n", counted, position), position
        try:
            value, end = _DECODER.raw_decode(content, position)
        except (ValueError, RecursionError) as error:
            where = _place(error, line)
            following = _next_line(content, position)
            if following is None:
                raise DataError("unreadable_json", f"{name} is not valid JSON at {where}") from None
            value, end = RowProblem("unreadable_json", f"the line is not valid JSON at {where}", "write one object"), following
        yield line, value
        position = _after_space(content, end)


def _after_space(content: str, position: int) -> int:
    match = _SPACE.match(content, position)
    return match.end() if match else position


def _place(error: Exception, line: int) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"line {error.lineno}, column {error.colno}"
    return f"line {line}"  # a number too long or a nesting too deep for the parser


def _next_line(content: str, position: int) -> int | None:
    """Return where the next value of JSON Lines begins; None if the content is no JSON Lines."""
    if content[position] == "[":
        return None
    end = content.find("\n", position)
    following = len(content) if end < 0 else _after_space(content, end)
    return following if following == len(content) or content[following] == "{" else None


def _table(value: object, text_field: str) -> list[Any] | None:
    """Return the rows of an object that holds a whole table; None if it is one row."""
    if not isinstance(value, dict) or not value:
        return None
    parts: dict[str, Any] = value
    columns, data = parts.get("columns"), parts.get("data")  # untyped: the keys of pandas' "split"
    if isinstance(columns, list) and isinstance(data, list):
        return [dict(zip(columns, cells, strict=False)) if isinstance(cells, list) else cells for cells in data]
    if isinstance(data, list) and text_field not in parts:
        return data
    if all(isinstance(part, dict) for part in parts.values()):
        return _by_row(parts) if text_field in parts else list(parts.values())
    if text_field in parts and all(isinstance(part, list) for part in parts.values()):
        lengths = {len(part) for part in parts.values()}
        if len(lengths) == 1 and len(parts) > 1:
            return [dict(zip(parts, cells, strict=True)) for cells in zip(*parts.values(), strict=True)]
    return None


def _by_row(columns: Mapping[str, dict[str, object]]) -> list[dict[str, object]]:
    """Turn column -> index -> value into one mapping for each index."""
    rows: dict[str, dict[str, object]] = {}
    for field, cells in columns.items():
        for index, cell in cells.items():
            rows.setdefault(index, {})[field] = cell
    return list(rows.values())

"""The rows of JSON: an array, JSON Lines, `{"data": [...]}`, or what pandas' `to_json` writes."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from workers.agent.datasets.file_bytes import DataFile
from workers.agent.datasets.json_text import JsonText
from workers.agent.datasets.rows import Row, RowProblem
from workers.agent.runtime.errors import DataError


def json_rows(file: DataFile, text_field: str) -> Iterator[Row]:
    """Yield the rows of all JSON values of a file.

    Several values may follow each other, because joined files have them so.

    Raises:
        DataError: `unreadable_json`, where the reader cannot continue at the next line.
        `file_too_large` for a value that does not fit into memory.
    """
    text, count = JsonText(file), 0
    while first := text.next_character():
        line, table = text.line, None
        try:
            value, table = _next_value(text, first, text_field)
            if table is None:
                yield Row("line", line, value)
                continue
            for element in table:
                count += 1
                yield Row("row", count, element)
        except (ValueError, RecursionError) as error:
            where = text.place(error)
            if first == "[" or isinstance(table, Iterator) or not text.skip_line():
                raise DataError("unreadable_json", f"{file.name} is not valid JSON at {where}") from None
            problem = RowProblem("unreadable_json", f"the line is not valid JSON at {where}", "write one object")
            yield Row("line", line, problem=problem)


def _next_value(text: JsonText, first: str, text_field: str) -> tuple[object, Iterable[object] | None]:
    """Return the next value, or its rows if it is a whole table.

    An iterator of rows reads the text. Raises: as `json_rows`.
    """
    if first == "[":
        return None, text.elements()
    try:
        value = text.value()
    except DataError as too_large:
        return None, _large_table(text, too_large)
    return value, _table(value, text_field)


def _table(value: object, text_field: str) -> list[Any] | None:
    """Return the rows of an object that holds a whole table; None if it is one row."""
    if not isinstance(value, dict) or not value:
        return None
    parts: dict[str, Any] = value
    columns, data = parts.get("columns"), parts.get("data")  # untyped: the keys of pandas' "split"
    if isinstance(columns, list) and isinstance(data, list):
        return [_with_columns(columns, cells) for cells in data]
    if isinstance(data, list) and text_field not in parts:
        return data
    if all(isinstance(part, dict) for part in parts.values()):
        return _by_row(parts) if text_field in parts else list(parts.values())
    if text_field in parts and all(isinstance(part, list) for part in parts.values()):
        lengths = {len(part) for part in parts.values()}
        if len(lengths) == 1 and len(parts) > 1:
            return [dict(zip(parts, cells, strict=True)) for cells in zip(*parts.values(), strict=True)]
    return None


def _large_table(text: JsonText, too_large: DataError) -> Iterator[object]:
    """Yield the rows of an object that does not fit into memory, but whose rows in `data` do.

    Raises: `too_large` if it has no such rows.
    """
    columns: object = None
    has_rows = False
    for key in text.members():
        if key == "data" and text.next_character() == "[":
            has_rows = True
            yield from (_with_columns(columns, cells) for cells in text.elements())
        else:
            value = text.value()
            columns = value if key == "columns" else columns
    if not has_rows:
        raise too_large


def _with_columns(columns: object, cells: object) -> object:
    """Return a row of pandas' "split" as a mapping. Another row stays as it is."""
    if isinstance(columns, list) and isinstance(cells, list):
        return dict(zip(columns, cells, strict=False))
    return cells


def _by_row(columns: Mapping[str, dict[str, object]]) -> list[dict[str, object]]:
    """Turn column -> index -> value into one mapping for each index."""
    rows: dict[str, dict[str, object]] = {}
    for field, cells in columns.items():
        for index, cell in cells.items():
            rows.setdefault(index, {})[field] = cell
    return list(rows.values())

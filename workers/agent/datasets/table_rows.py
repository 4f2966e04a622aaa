"""The rows of CSV and TSV files. The first line names the columns."""

import csv
import io
from collections.abc import Iterator
from typing import Final

from workers.agent.datasets.file_bytes import DataFile
from workers.agent.datasets.rows import Row, RowProblem
from workers.agent.runtime.errors import DataError

_SEPARATORS: Final = ("\t", ",", ";", "|")
# An open quote takes all that follows into one cell. A longer cell ends as such a quote.
csv.field_size_limit(2**24)


def table_rows(file: DataFile, text_field: str) -> Iterator[Row]:
    """Yield the rows below the header. The separator is a tab, comma, semicolon or bar.

    Raises:
        DataError: `unreadable_json` if the content is no table, `missing_text` without a header
        that has `text_field`.
    """
    header, separator = _header(file, text_field)
    quoting = csv.QUOTE_MINIMAL
    # Many programs write TSV without quoting. There a quote is an ordinary character.
    if separator == "\t" and any(row.problem is not None for row in _rows(file, header, separator, quoting)):
        quoting = csv.QUOTE_NONE
    yield from _rows(file, header, separator, quoting)


def _lines(file: DataFile) -> Iterator[str]:
    """Yield the lines with their ends, as csv wants them.

    Raises:
        DataError: `file_too_large` for a line that does not fit into memory.
    """
    rest = ""
    for piece in file.text():
        text = rest + piece
        # A carriage return at the end may be half of a line end.
        end = max(text.rfind("\n"), text.rfind("\r", 0, len(text) - 1)) + 1
        yield from io.StringIO(text[:end], newline="")
        rest = text[end:]
        if len(rest) > file.in_memory:
            raise file.too_large_for_memory("one line", "write each row on a line of its own")
    yield from io.StringIO(rest, newline="")


def _header(file: DataFile, text_field: str) -> tuple[list[str], str]:
    """Return the names of the columns, and the separator."""
    name = file.name
    first = next((line for line in _lines(file) if line.strip()), "")
    headers = {
        separator: [cell.strip() for cell in next(csv.reader([first], delimiter=separator), [])] for separator in _SEPARATORS
    }
    fitting = [separator for separator, names in headers.items() if text_field in names]
    if fitting:
        separator = max(fitting, key=lambda separator: len(headers[separator]))
        return headers[separator], separator
    columns = max(len(names) for names in headers.values())
    if columns < 2:
        message = f"{name} is neither JSON (line 1, column 1) nor a table with a header"
        raise DataError("unreadable_json", message)
    # A file without a header has data in its first line, so the line is not quoted.
    message = (
        f"{name}, line 1: none of the {columns} columns is named {text_field!r}; "
        "write a first line that names the columns, or give the column's name as text_field"
    )
    raise DataError("missing_text", message)


def _rows(file: DataFile, header: list[str], separator: str, quoting: int) -> Iterator[Row]:
    reader = csv.reader(_lines(file), delimiter=separator, quoting=quoting, strict=True)  # type: ignore[arg-type]
    is_header = True
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error:
            remedy = "close every quote, and write a quote inside a quoted text twice"
            yield Row("line", line, problem=RowProblem("unreadable_table", "a quote is not closed", remedy))
            continue
        if not any(cell.strip() for cell in cells):
            continue
        if is_header or [cell.strip() for cell in cells] == header:  # joined files repeat it
            is_header = False
            continue
        if any(cell.strip() for cell in cells[len(header) :]):
            what = f"the row has {len(cells)} cells, and the header has {len(header)}"
            yield Row("line", line, problem=RowProblem("unreadable_table", what, "put texts that hold a separator in quotes"))
            continue
        yield Row("line", line, dict(zip(header, cells, strict=False)))

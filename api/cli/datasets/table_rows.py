"""The rows of CSV and TSV files. The first line names the columns."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from api.cli.datasets.rows import FileRow, Table
from api.cli.errors import UsageError

_SEPARATORS: Final = ("\t", ",", ";", "|")
_LARGEST_CELL: Final = 10_000_000


def table(path: Path, text: str, text_field: str) -> Table:
    """Return the rows below the header. The separator is a tab, comma, semicolon or bar.

    Raises:
        UsageError: The first line does not name two columns or more, each once.
    """
    csv.field_size_limit(_LARGEST_CELL)
    header, separator = _header(text, text_field)
    if len(header) < 2 or len(set(header)) < len(header):
        raise UsageError(f"{path}: the first line must name at least two columns, each once")
    rows = list(_rows(text, header, separator, csv.QUOTE_MINIMAL))
    if separator == "\t" and any(row.problem for row in rows):
        # Many programs write TSV without quoting. There a quote is an ordinary character.
        rows = list(_rows(text, header, separator, csv.QUOTE_NONE))
    return Table(path, "TSV" if separator == "\t" else "CSV", rows)


def _header(text: str, text_field: str) -> tuple[list[str], str]:
    """Return the names of the columns, and the separator that gives the most of them."""
    first = next((line for line in io.StringIO(text) if line.strip()), "")
    headers = {
        separator: [cell.strip() for cell in next(csv.reader([first], delimiter=separator), [])] for separator in _SEPARATORS
    }
    fitting = [separator for separator, names in headers.items() if text_field in names and len(names) > 1]
    separator = max(fitting or _SEPARATORS, key=lambda separator: len(headers[separator]))
    return headers[separator], separator


def _rows(text: str, header: list[str], separator: str, quoting: int) -> Iterator[FileRow]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, quoting=quoting, strict=True)  # type: ignore[arg-type]
    is_header = True
    while True:
        place = f"line {reader.line_num + 1}"
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield FileRow(place, problem=f"the table cannot be read here: {error}")
            continue
        if not any(cell.strip() for cell in cells):
            continue
        if is_header or [cell.strip() for cell in cells] == header:  # joined files repeat it
            is_header = False
        elif len(cells) != len(header):
            yield FileRow(place, problem=f"there are not {len(header)} columns, as in the first line")
        else:
            yield FileRow(place, dict(zip(header, cells, strict=True)))

"""Read a file of labelled texts: JSON, JSON Lines, CSV, TSV or Parquet, also as gzip or zstd.

The content decides the format, not the name.
"""

from pathlib import Path

from api.cli.datasets import json_rows, parquet_rows, table_rows
from api.cli.datasets.file_bytes import decode, read_bytes
from api.cli.datasets.rows import Table
from api.cli.errors import UsageError


def read(path: Path, text_field: str = "text") -> Table:
    """Return the rows of a file. `text_field` helps to find the separator of a table.

    Raises:
        UsageError: The file cannot be read. The message names the place and shows no value.
    """
    table = _table(path, text_field)
    if table.rows and all(row.problem for row in table.rows):
        raise UsageError(f"{path}: {table.rows[0].place}: {table.rows[0].problem}")
    return table


def _table(path: Path, text_field: str) -> Table:
    content = read_bytes(path)
    if content.startswith(parquet_rows.MAGIC):
        return parquet_rows.parquet(path, content)
    text = decode(path, content)
    start = text.lstrip()[:1]
    if not start:
        raise UsageError(f"{path} is empty")
    if start == "[":
        return json_rows.array(path, text)
    return json_rows.objects(path, text, text_field) if start == "{" else table_rows.table(path, text, text_field)

"""The rows of one data file in any known format. The content decides the format, not the name."""

from collections.abc import Iterator

from workers.agent.datasets import parquet_rows
from workers.agent.datasets.file_bytes import DataFile
from workers.agent.datasets.json_rows import json_rows
from workers.agent.datasets.rows import Row
from workers.agent.datasets.table_rows import table_rows


def rows_of(file: DataFile, text_field: str) -> Iterator[Row]:
    """Yield the rows of a file: JSON, JSON Lines, CSV, TSV or Parquet, also as gzip or zstd.

    Raises:
        DataError: `file_too_large`, `unreadable_file`, `unreadable_json`, `missing_text`.
    """
    if file.start() == parquet_rows.MAGIC:
        return parquet_rows.parquet_rows(file)
    first = next((stripped[0] for piece in file.text() if (stripped := piece.lstrip())), "")
    if not first:
        return iter(())
    return json_rows(file, text_field) if first in "[{" else table_rows(file, text_field)

"""The rows of one data file in any known format. The content decides the format, not the name."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from workers.agent.datasets import parquet_rows
from workers.agent.datasets.file_bytes import decode, read_bytes
from workers.agent.datasets.json_rows import json_rows
from workers.agent.datasets.rows import Row
from workers.agent.datasets.table_rows import table_rows

_FIRST: Final = re.compile(r"\s*(\S?)")


def rows_of(path: Path, name: str, text_field: str) -> Iterator[Row]:
    """Yield the rows of a file: JSON, JSON Lines, CSV, TSV or Parquet, also as gzip or zstd.

    Raises:
        DataError: `file_too_large`, `unreadable_file`, `unreadable_json`, `missing_text`.
    """
    content = read_bytes(path, name)
    if content.startswith(parquet_rows.MAGIC):
        return parquet_rows.parquet_rows(content, name)
    text = decode(content, name)
    match = _FIRST.match(text)
    first = match[1] if match else ""
    if not first:
        return iter(())
    return json_rows(text, name, text_field) if first in "[{" else table_rows(text, name, text_field)

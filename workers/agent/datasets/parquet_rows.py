"""The rows of Parquet files. It needs pyarrow, which a sandbox may lack."""

from collections.abc import Iterator
from typing import Any

from workers.agent.datasets.file_bytes import DataFile
from workers.agent.datasets.rows import Row
from workers.agent.runtime.errors import DataError

MAGIC = b"PAR1"
_ROWS_AT_ONCE = 512
_BUFFER = 2**20


def parquet_rows(file: DataFile) -> Iterator[Row]:
    """Yield the rows of a Parquet file. It reads some pages of each column at a time.

    Raises:
        DataError: `unreadable_file` or `file_too_large`.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        message = f"{file.name} is a Parquet file, and the sandbox lacks the package pyarrow; install it, or write JSON Lines"
        raise DataError("unreadable_file", message) from None
    number = 0
    try:
        source: Any = pyarrow.BufferReader(_unpacked(file)) if file.is_compressed else file.path
        table = parquet.ParquetFile(source, pre_buffer=False, buffer_size=_BUFFER)
        groups = range(table.metadata.num_row_groups)
        if sum(table.metadata.row_group(index).total_byte_size for index in groups) > file.largest:
            raise file.too_large()
        size, rows = file.size, table.metadata.num_rows
        for batch in table.iter_batches(_ROWS_AT_ONCE, use_threads=False):
            for value in batch.to_pylist():
                number += 1
                yield Row("row", number, value)
            file.reading.reach(file.offset + size * number // max(rows, 1))
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError("unreadable_file", f"{file.name} is a broken Parquet file ({type(error).__name__})") from None


def _unpacked(file: DataFile) -> bytes:
    """Return the content of a compressed Parquet file. Its end must be read first."""
    content = bytearray()
    for piece in file.pieces():
        content += piece
        if len(content) > file.in_memory:
            raise file.too_large_for_memory("a compressed Parquet file", "unpack it")
    return bytes(content)

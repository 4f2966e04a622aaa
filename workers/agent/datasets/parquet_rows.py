"""The rows of Parquet files. It needs pyarrow, which a sandbox may lack."""

from collections.abc import Iterator

from workers.agent.datasets.file_bytes import MAX_FILE_BYTES
from workers.agent.datasets.rows import Row
from workers.agent.runtime.errors import DataError

MAGIC = b"PAR1"
_ROWS_AT_ONCE = 4096


def parquet_rows(content: bytes, name: str) -> Iterator[Row]:
    """Yield the rows of a Parquet file.

    Raises:
        DataError: `unreadable_file` or `file_too_large`.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        message = f"{name} is a Parquet file, and the sandbox lacks the package pyarrow; install it, or write JSON Lines"
        raise DataError("unreadable_file", message) from None
    number = 0
    try:
        file = parquet.ParquetFile(pyarrow.BufferReader(content))
        groups = range(file.metadata.num_row_groups)
        if sum(file.metadata.row_group(index).total_byte_size for index in groups) > MAX_FILE_BYTES:
            raise DataError("file_too_large", f"{name} is larger than {MAX_FILE_BYTES} bytes")
        for batch in file.iter_batches(_ROWS_AT_ONCE, use_threads=False):
            for value in batch.to_pylist():
                number += 1
                yield Row("row", number, value)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError("unreadable_file", f"{name} is a broken Parquet file ({type(error).__name__})") from None

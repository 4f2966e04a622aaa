"""The rows of a Parquet file. It needs pyarrow, which an installation without agents may lack."""

from pathlib import Path
from typing import Final

from api.cli.datasets.rows import FileRow, Table
from api.cli.errors import UsageError

MAGIC: Final = b"PAR1"


def parquet(path: Path, content: bytes) -> Table:
    """Return the rows of a Parquet file.

    Raises:
        UsageError: pyarrow is absent, or the file is broken.
    """
    try:
        import pyarrow
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise UsageError(f"{path} is a Parquet file, which needs the Python package pyarrow; or save it as CSV") from None
    try:
        rows = ParquetFile(pyarrow.BufferReader(content)).read(use_threads=False).to_pylist()
    except (pyarrow.ArrowException, OSError):
        raise UsageError(f"{path} is a broken Parquet file") from None
    return Table(path, "Parquet", [FileRow(f"row {number}", row) for number, row in enumerate(rows, 1)])

"""The bytes of a file: decompressed, and decoded to text. The file's name does not matter."""

import gzip
import io
import zlib
from pathlib import Path
from typing import Final

from api.cli.errors import UsageError

_LARGEST: Final = 2**30
_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_UNREADABLE: Final = {
    b"PK\x03\x04": "a ZIP archive or a spreadsheet; unpack it, or save it as CSV",
    b"BZh": "compressed with bzip2; use gzip or zstd",
    b"\xfd7zXZ": "compressed with xz; use gzip or zstd",
}
_MARKS: Final = (
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)


def read_bytes(path: Path) -> bytes:
    """Return the content of a file, decompressed if it is a gzip or zstd file.

    Raises:
        UsageError: The file cannot be read, or it is larger than 1 GiB.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise UsageError(f"{path} is larger than 1 GiB")
        content = path.read_bytes()
        if content.startswith(_GZIP):
            content = _ungzip(content)
        elif content.startswith(_ZSTD):
            content = _unzstd(path, content)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise UsageError(f"{path} is a broken gzip file") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or type(error).__name__}") from None
    for magic, kind in _UNREADABLE.items():
        if content.startswith(magic):
            raise UsageError(f"{path} is {kind}")
    if len(content) > _LARGEST:
        raise UsageError(f"{path} is larger than 1 GiB when it is decompressed")
    return content


def _ungzip(content: bytes) -> bytes:
    with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
        return file.read(_LARGEST + 1)


def _unzstd(path: Path, content: bytes) -> bytes:
    try:
        import pyarrow
    except ImportError:
        raise UsageError(f"{path} is compressed with zstd, which needs the Python package pyarrow; or use gzip") from None
    try:
        with pyarrow.CompressedInputStream(pyarrow.BufferReader(content), "zstd") as stream:
            unpacked: bytes = stream.read(_LARGEST + 1)
    except OSError:
        raise UsageError(f"{path} is a broken zstd file") from None
    return unpacked


def decode(path: Path, content: bytes) -> str:
    """Return the text of a file in UTF-8, UTF-16 or UTF-32, without byte order marks.

    Raises:
        UsageError: The file has another encoding.
    """
    encoding = next((encoding for mark, encoding in _MARKS if content.startswith(mark)), None) or _unmarked(content[:2])
    try:
        return content.decode(encoding).replace("\ufeff", "")
    except UnicodeDecodeError as error:
        name = encoding.upper().removesuffix("-LE").removesuffix("-BE")
        raise UsageError(f"{path}: byte {error.start + 1} is not {name}; save the file as UTF-8") from None


def _unmarked(start: bytes) -> str:
    """Return the encoding of a file without a mark. All formats begin with an ASCII character."""
    if len(start) == 2 and start[0] and not start[1]:
        return "utf-16-le"
    if len(start) == 2 and start[1] and not start[0]:
        return "utf-16-be"
    return "utf-8"

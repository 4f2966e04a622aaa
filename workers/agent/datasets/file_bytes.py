"""The bytes of a data file: decompressed, and decoded to text. The file's name does not matter."""

import gzip
import io
import zlib
from pathlib import Path
from typing import Final

from workers.agent.runtime.errors import DataError

MAX_FILE_BYTES = 2**30
_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_UNREADABLE: Final = {
    b"PK\x03\x04": "a ZIP archive or a spreadsheet; unpack it, or save it as CSV",
    b"BZh": "compressed with bzip2; use gzip or zstd",
    b"\xfd7zXZ": "compressed with xz; use gzip or zstd",
}
_BYTE_ORDER_MARKS: Final = (
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_BYTE_ORDER_MARK: Final = "\ufeff"


def read_bytes(path: Path, name: str) -> bytes:
    """Return the content of a file, decompressed if it is a gzip or zstd file.

    Raises:
        DataError: `file_too_large` or `unreadable_file`. Messages show `name` for the path.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise _too_large(name)
        content = path.read_bytes()
    except OSError as error:
        raise DataError("unreadable_file", f"{name} cannot be read ({type(error).__name__})") from None
    if content.startswith(_GZIP):
        content = _decompressed(content, "gzip", name)
    elif content.startswith(_ZSTD):
        content = _decompressed(content, "zstd", name)
    for magic, kind in _UNREADABLE.items():
        if content.startswith(magic):
            raise DataError("unreadable_file", f"{name} is {kind}")
    return content


def _decompressed(content: bytes, kind: str, name: str) -> bytes:
    try:
        unpacked = _gunzip(content) if kind == "gzip" else _unzstd(content)
    except ImportError:
        message = f"{name} is compressed with zstd, and the sandbox lacks the package pyarrow; install it, or use gzip"
        raise DataError("unreadable_file", message) from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError("unreadable_file", f"{name} is a broken {kind} file ({type(error).__name__})") from None
    if len(unpacked) > MAX_FILE_BYTES:
        raise _too_large(name)
    return unpacked


def _gunzip(content: bytes) -> bytes:
    with gzip.open(io.BytesIO(content), "rb") as file:
        return file.read(MAX_FILE_BYTES + 1)


def _unzstd(content: bytes) -> bytes:
    import pyarrow

    with pyarrow.CompressedInputStream(pyarrow.BufferReader(content), "zstd") as stream:
        unpacked: bytes = stream.read(MAX_FILE_BYTES + 1)
    return unpacked


def _too_large(name: str) -> DataError:
    return DataError("file_too_large", f"{name} is larger than {MAX_FILE_BYTES} bytes")


def decode(content: bytes, name: str) -> str:
    """Return the text of a file in UTF-8, UTF-16 or UTF-32.

    Byte order marks are dropped everywhere: joined files have some in the middle.

    Raises:
        DataError: `unreadable_json`.
    """
    encoding = next((encoding for mark, encoding in _BYTE_ORDER_MARKS if content.startswith(mark)), None)
    encoding = encoding or _without_mark(content[:2])
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        spelled = encoding.upper().removesuffix("-LE").removesuffix("-BE")
        message = f"{name} is not {spelled} at byte {error.start}; save it as UTF-8"
        raise DataError("unreadable_json", message) from None
    return text.replace(_BYTE_ORDER_MARK, "")


def _without_mark(start: bytes) -> str:
    """Return the encoding of a file without a mark. All formats begin with an ASCII character."""
    if len(start) == 2 and start[0] and not start[1]:
        return "utf-16-le"
    if len(start) == 2 and start[1] and not start[0]:
        return "utf-16-be"
    return "utf-8"

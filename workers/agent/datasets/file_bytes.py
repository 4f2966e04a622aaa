"""The content of a data file in pieces: decompressed, and decoded to text.

The file's name does not matter. A piece is about a MiB.
"""

import codecs
import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, Any, Final

from workers.agent.datasets.reading import Reading
from workers.agent.runtime.errors import DataError

_PIECE: Final = 2**20
_LONGEST_MARK: Final = 4
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


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file of labelled texts. Messages show `name` for the path.

    `largest` is the largest size in bytes, also of the decompressed content. `in_memory` is the
    largest part that is parsed at once. `offset` counts the bytes of the files before this one.
    """

    path: Path
    name: str
    largest: int
    in_memory: int
    reading: Reading
    offset: int = 0

    @property
    def size(self) -> int:
        """Raises: DataError `unreadable_file`."""
        try:
            return self.path.stat().st_size
        except OSError as error:
            raise self._unreadable(error) from None

    @property
    def is_compressed(self) -> bool:
        with self._opened() as file:
            return _compression(file) is not None

    def start(self) -> bytes:
        """Return the first bytes of the decompressed content.

        Raises:
            DataError: `file_too_large` or `unreadable_file`.
        """
        if self.size > self.largest:
            raise self.too_large()
        start = next(self.pieces(), b"")
        for magic, kind in _UNREADABLE.items():
            if start.startswith(magic):
                raise DataError("unreadable_file", f"{self.name} is {kind}")
        return start[:_LONGEST_MARK]

    def pieces(self) -> Iterator[bytes]:
        """Yield the decompressed content. The first piece has four bytes or more, if there are any.

        Raises:
            DataError: `file_too_large` or `unreadable_file`.
        """
        total, kept = 0, b""
        with self._opened() as file:
            kind = _compression(file)
            try:
                stream = _decompressed(file, kind)
                while piece := stream.read(_PIECE):
                    total += len(piece)
                    if total > self.largest:
                        raise self.too_large()
                    self.reading.reach(self.offset + file.tell())
                    kept += piece
                    if len(kept) >= _LONGEST_MARK:
                        yield kept
                        kept = b""
            except ImportError:
                message = (
                    f"{self.name} is compressed with zstd, and the sandbox lacks the package pyarrow; install it, or use gzip"
                )
                raise DataError("unreadable_file", message) from None
            except (OSError, EOFError, zlib.error) as error:
                if kind is None:
                    raise self._unreadable(error) from None
                raise DataError("unreadable_file", f"{self.name} is a broken {kind} file ({type(error).__name__})") from None
        if kept:
            yield kept

    def text(self) -> Iterator[str]:
        """Yield the text of a file in UTF-8, UTF-16 or UTF-32.

        Byte order marks are dropped everywhere: joined files have some in the middle.

        Raises:
            DataError: `unreadable_json`, and the errors of `pieces`.
        """
        pieces = self.pieces()
        first = next(pieces, b"")
        encoding = _encoding(first)
        decoder = codecs.getincrementaldecoder(encoding)()
        position = 0
        for piece in chain([first], pieces, [b""]):
            pending = len(decoder.getstate()[0])
            try:
                text = decoder.decode(piece, not piece)
            except UnicodeDecodeError as error:
                spelled = encoding.upper().removesuffix("-LE").removesuffix("-BE")
                message = f"{self.name} is not {spelled} at byte {position - pending + error.start}; save it as UTF-8"
                raise DataError("unreadable_json", message) from None
            position += len(piece)
            if text := text.replace(_BYTE_ORDER_MARK, ""):
                yield text

    def too_large(self) -> DataError:
        return DataError("file_too_large", f"{self.name} is larger than {self.largest} bytes (limit: file size)")

    def too_large_for_memory(self, what: str, remedy: str) -> DataError:
        message = f"{self.name}: {what} is larger than {self.in_memory} bytes (limit: memory); {remedy}"
        return DataError("file_too_large", message)

    @contextmanager
    def _opened(self) -> Iterator[IO[bytes]]:
        try:
            file = self.path.open("rb")
        except OSError as error:
            raise self._unreadable(error) from None
        with file:
            yield file

    def _unreadable(self, error: Exception) -> DataError:
        return DataError("unreadable_file", f"{self.name} cannot be read ({type(error).__name__})")


def _compression(file: IO[bytes]) -> str | None:
    start = file.read(_LONGEST_MARK)
    file.seek(0)
    return "gzip" if start.startswith(_GZIP) else "zstd" if start.startswith(_ZSTD) else None


def _decompressed(file: IO[bytes], kind: str | None) -> Any:
    """Return an object whose `read` gives the decompressed bytes."""
    if kind is None:
        return file
    if kind == "gzip":
        return gzip.GzipFile(fileobj=file, mode="rb")
    import pyarrow

    return pyarrow.CompressedInputStream(pyarrow.PythonFile(file, "r"), "zstd")


def _encoding(start: bytes) -> str:
    """Return the encoding of a file. Without a mark, its first character is an ASCII character."""
    for mark, encoding in _BYTE_ORDER_MARKS:
        if start.startswith(mark):
            return encoding
    if len(start) > 1 and start[0] and not start[1]:
        return "utf-16-le"
    if len(start) > 1 and start[1] and not start[0]:
        return "utf-16-be"
    return "utf-8"

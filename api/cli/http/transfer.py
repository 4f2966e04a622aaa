"""Content for an upload: streamed from its source, counted and hashed on the way."""

import hashlib
import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from api.cli.errors import CliError, UsageError
from api.cli.responses import StoredFileJson

_CHUNK = 256 * 1024


@dataclass
class Content:
    """Bytes from the command line, from a file or from stdin.

    Only those from stdin cannot be sent a second time.
    """

    text: bytes | None = None
    path: Path | None = None
    on_progress: Callable[[int], None] = lambda _bytes: None
    sent: int = 0
    digest: str = field(default="", repr=False)

    @property
    def size(self) -> int | None:
        if self.text is not None:
            return len(self.text)
        return self.path.stat().st_size if self.path else None

    @property
    def repeatable(self) -> bool:
        return self.size is not None

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes from the start.

        Afterwards `sent` is their number and `digest` their SHA-256.
        """
        digest, self.sent = hashlib.sha256(), 0
        with self._open() as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
                self.sent += len(chunk)
                self.on_progress(self.sent)
                yield chunk
        self.digest = digest.hexdigest()

    def read_text(self) -> str:
        """Return the whole content as text, for a JSON field.

        Raises:
            UsageError: It is not UTF-8.
        """
        with self._open() as stream:
            content = stream.read()
        try:
            return content.decode()
        except UnicodeDecodeError:
            raise UsageError("the content is not UTF-8 text") from None

    def _open(self) -> AbstractContextManager[IO[bytes]]:
        if self.text is not None:
            return io.BytesIO(self.text)
        if self.path is not None:
            return self.path.open("rb")
        return nullcontext(sys.stdin.buffer)


def content(text: str | None, file: Path | None = None) -> Content:
    """Return the content of TEXT, @FILE or - (stdin), or of the option `--file`.

    Raises:
        UsageError: Not exactly one is given, or the file cannot be read.
    """
    if (text is None) == (file is None):
        raise UsageError("give the content with either --content or --file")
    if text == "-":
        return Content()
    if text is not None and not text.startswith("@"):
        # The bytes of the shell, also if they are not valid text.
        return Content(text=os.fsencode(text))
    path = file or Path(str(text)[1:])
    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    if not os.access(path, os.R_OK):
        raise UsageError(f"{path} cannot be read")
    return Content(path=path)


def check_upload(sent: Content, stored: StoredFileJson) -> None:
    """Compare the stored file with the sent content.

    Raises:
        CliError: The size or the checksum differs.
    """
    if (stored.size, stored.sha256) != (sent.sent, sent.digest):
        raise CliError(f"{stored.path} did not arrive as it was sent: size or checksum differ")

"""Downloads: written beside their destination, and moved there once they are complete."""

import hashlib
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, cast

import httpx

from api.cli.errors import CliError, UsageError

# Gets the number of bytes so far.
ProgressCallback = Callable[[int], None]
TAR_TYPES = frozenset({"application/x-tar", "application/gzip", "application/x-gtar"})


@dataclass(frozen=True, slots=True)
class SavedFile:
    local_path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class SavedFolder:
    local_path: str
    files: int
    size: int
    links_left_out: int


def is_folder(response: httpx.Response) -> bool:
    """Return whether the body is a folder: a tar stream. A file comes as plain bytes."""
    return response.headers.get("Content-Type", "").partition(";")[0].strip().lower() in TAR_TYPES


def size_of(response: httpx.Response) -> int | None:
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else None


def save(
    response: httpx.Response, name: str, local_path: Path, *, folder: bool, overwrite: bool, on_progress: ProgressCallback
) -> SavedFile | SavedFolder:
    """Write the body to `local_path`. With `folder` the body is a tar, which is unpacked.

    A file goes to `local_path/name` if `local_path` is a folder. `name` is the name in the sandbox.

    Raises:
        CliError: The transfer or the archive is broken. Nothing is written then.
        UsageError: The destination exists already.
    """
    destination = local_path if folder or not local_path.is_dir() else local_path / name
    if folder and local_path.exists() and not local_path.is_dir():
        raise UsageError(f"{local_path} is a file, but the download is a folder")
    if folder and not overwrite and local_path.is_dir() and any(local_path.iterdir()):
        raise UsageError(f"{local_path} is not empty; --overwrite replaces it")
    try:
        with _staging(destination) as stage:
            if folder:
                return _save_folder(response, name, destination, stage, on_progress)
            return _save_file(response, destination, stage, on_progress)
    except httpx.HTTPError:
        raise CliError(f"the transfer broke off; {destination} was not written") from None
    except (tarfile.TarError, EOFError) as error:
        raise CliError(f"the archive is not usable ({error}); {destination} was not written") from None
    except OSError as error:
        raise CliError(f"{destination} cannot be written: {error.strerror or error}") from None


@contextmanager
def _staging(destination: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `destination`, on the same file system."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    stage = Path(tempfile.mkdtemp(prefix=f".{destination.name}.", dir=destination.parent))
    try:
        yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _save_file(response: httpx.Response, destination: Path, stage: Path, on_progress: ProgressCallback) -> SavedFile:
    digest, size, temporary = hashlib.sha256(), 0, stage / "file"
    with temporary.open("wb") as stream:
        for chunk in response.iter_bytes():
            stream.write(chunk)
            digest.update(chunk)
            size += len(chunk)
            on_progress(size)
    temporary.replace(destination)
    return SavedFile(str(destination), size, digest.hexdigest())


class _Stream:
    """The body as a file object for the stream mode of tarfile, which calls only `read(size)`."""

    def __init__(self, chunks: Iterator[bytes], on_progress: ProgressCallback) -> None:
        self._chunks = chunks
        self._buffer = bytearray()
        self._on_progress = on_progress
        self._size = 0

    def read(self, size: int) -> bytes:
        while len(self._buffer) < size and (chunk := next(self._chunks, None)) is not None:
            self._buffer += chunk
            self._size += len(chunk)
            self._on_progress(self._size)
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data


def _save_folder(
    response: httpx.Response, name: str, destination: Path, stage: Path, on_progress: ProgressCallback
) -> SavedFolder:
    content = stage / "content"
    content.mkdir()
    chunks = response.iter_bytes()
    files, size, links, has_root = 0, 0, 0, None
    with tarfile.open(fileobj=cast(IO[bytes], _Stream(chunks, on_progress)), mode="r|*") as archive:
        for entry in archive:
            if has_root is None:
                has_root = PurePosixPath(entry.name).parts[:1] == (name,) and not entry.name.startswith("./")
            if entry.issym() or entry.islnk():
                # Attacks on tar filters use chains of links, and no export needs a link.
                links += 1
                continue
            if PurePosixPath(entry.name).is_absolute():
                # The filter would make it a relative path.
                raise tarfile.AbsolutePathError(entry)
            archive.extract(entry, content, filter="data")
            files += entry.isreg()
            size += entry.size if entry.isreg() else 0
    # Only the end of the body shows whether the transfer is complete.
    for _ in chunks:
        pass
    inner = content / name
    _move(inner if has_root and inner.is_dir() else content, destination, stage / "replaced")
    return SavedFolder(str(destination), files, size, links)


def _move(folder: Path, destination: Path, replaced: Path) -> None:
    """Move the folder to its destination.

    An existing folder is moved to `replaced` first, and moved back if the move fails.
    """
    if not destination.exists():
        folder.rename(destination)
        return
    destination.rename(replaced)
    try:
        folder.rename(destination)
    except OSError:
        os.rename(replaced, destination)  # noqa: PTH104
        raise

"""What comes out of a sandbox: written beside its place and moved there when all of it has arrived."""

import hashlib
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

import httpx

from api.cli.errors import CliError, UsageError

Moved = Callable[[int], None]
TAR_TYPES = frozenset({"application/x-tar", "application/gzip", "application/x-gtar"})


def is_folder(response: httpx.Response) -> bool:
    """A folder comes as a tar stream, a file as plain bytes."""
    return response.headers.get("Content-Type", "").partition(";")[0].strip().lower() in TAR_TYPES


def size_of(response: httpx.Response) -> int | None:
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else None


def save(response: httpx.Response, name: str, local_path: Path, *, overwrite: bool, moved: Moved) -> dict[str, Any]:
    """Store the body at `local_path`, or under it as `name` where it is a folder and the body is a file.

    `name` is what the thing is called in the sandbox. Raises CliError and leaves nothing behind when the transfer or the
    archive is broken; UsageError when something already stands there.
    """
    folder = is_folder(response)
    place = local_path if folder or not local_path.is_dir() else local_path / name
    if folder and local_path.exists() and not local_path.is_dir():
        raise UsageError(f"{local_path} is a file, and what comes is a folder")
    if folder and not overwrite and local_path.is_dir() and any(local_path.iterdir()):
        raise UsageError(f"{local_path} is not empty; --overwrite replaces it")
    try:
        with _staging(place) as stage:
            if folder:
                return _save_folder(response, name, place, stage, moved)
            return _save_file(response, place, stage, moved)
    except httpx.HTTPError:
        raise CliError(f"the transfer broke off; {place} was not written") from None
    except (tarfile.TarError, EOFError) as error:
        raise CliError(f"the archive is not usable ({error}); {place} was not written") from None
    except OSError as error:
        raise CliError(f"{place} cannot be written: {error.strerror or error}") from None


@contextmanager
def _staging(place: Path) -> Iterator[Path]:
    """A folder beside `place`, on the same file system, that is gone afterwards."""
    place.parent.mkdir(parents=True, exist_ok=True)
    stage = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
    try:
        yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _save_file(response: httpx.Response, place: Path, stage: Path, moved: Moved) -> dict[str, Any]:
    digest, size, part = hashlib.sha256(), 0, stage / "file"
    with part.open("wb") as stream:
        for chunk in response.iter_bytes():
            stream.write(chunk)
            digest.update(chunk)
            size += len(chunk)
            moved(size)
    part.replace(place)
    return {"local_path": str(place), "size": size, "sha256": digest.hexdigest()}


class _Stream:
    """The body as the file object that tarfile's stream mode reads: nothing but `read(size)`."""

    def __init__(self, chunks: Iterator[bytes], moved: Moved) -> None:
        self._chunks = chunks
        self._buffer = bytearray()
        self._moved = moved
        self._size = 0

    def read(self, size: int) -> bytes:
        while len(self._buffer) < size and (chunk := next(self._chunks, None)) is not None:
            self._buffer += chunk
            self._size += len(chunk)
            self._moved(self._size)
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data


def _save_folder(response: httpx.Response, name: str, place: Path, stage: Path, moved: Moved) -> dict[str, Any]:
    content = stage / "content"
    content.mkdir()
    chunks = response.iter_bytes()
    files, size, links, rooted = 0, 0, 0, None
    with tarfile.open(fileobj=cast(IO[bytes], _Stream(chunks, moved)), mode="r|*") as archive:
        for member in archive:
            if rooted is None:
                rooted = PurePosixPath(member.name).parts[:1] == (name,) and not member.name.startswith("./")
            if member.issym() or member.islnk():
                # Chains of links are what escapes from tar filters are made of, and no export needs one.
                links += 1
                continue
            if PurePosixPath(member.name).is_absolute():
                # The filter would take it for a relative one.
                raise tarfile.AbsolutePathError(member)
            archive.extract(member, content, filter="data")
            files += member.isreg()
            size += member.size if member.isreg() else 0
    # Read to the end: only then is a transfer that was cut off told from a whole one.
    for _ in chunks:
        pass
    inner = content / name
    _put(inner if rooted and inner.is_dir() else content, place, stage / "replaced")
    return {"local_path": str(place), "files": files, "size": size, "links_left_out": links}


def _put(folder: Path, place: Path, replaced: Path) -> None:
    """Move the folder to its place; what stood there goes to the staging folder first, and back if that fails."""
    if not place.exists():
        folder.rename(place)
        return
    place.rename(replaced)
    try:
        folder.rename(place)
    except OSError:
        os.rename(replaced, place)  # noqa: PTH104
        raise

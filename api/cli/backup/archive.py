"""A backup as a file: a tar of the tables, the exported models and the secret key.

The last member is the manifest. It has the size and the SHA-256 of each other member.
"""

import gzip
import hashlib
import io
import json
import os
import re
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import BinaryIO, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from api.cli.errors import CliError, UsageError

_MANIFEST: Final = "manifest.json"
_SECRETS: Final = "secrets.json"
_BLOCK: Final = 1 << 20
_MODEL: Final = re.compile(r"models/[\w-]+\.tar", re.ASCII)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ArchivedTable(_Strict):
    """A table of the backup. `columns` are in the order of its rows."""

    name: str = Field(pattern=r"^\w+$")
    columns: list[str]
    rows: int


class ArchivedFile(_Strict):
    size: int
    sha256: str


class Manifest(_Strict):
    """What a backup holds. `missing_models` have a row and had no file."""

    format: Literal[1] = 1
    release: str
    revision: str
    created_at: datetime
    tables: list[ArchivedTable]
    files: dict[str, ArchivedFile]
    missing_models: list[str] = []


class Writer:
    """Adds members to a new backup, which only its owner can read.

    The file has its name only when it is complete.
    """

    def __init__(self, tar: tarfile.TarFile, folder: Path) -> None:
        self._tar = tar
        self._folder = folder
        self._files: dict[str, ArchivedFile] = {}
        self._tables: list[ArchivedTable] = []

    def add_table(self, name: str, columns: Iterable[str], rows: Iterable[bytes]) -> None:
        """Add a table by its rows, each one line."""
        count = 0
        with tempfile.TemporaryFile(dir=self._folder) as packed:
            with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=6, mtime=0) as zipped:
                for data in rows:
                    count += data.count(b"\n")
                    zipped.write(data)
            packed.seek(0)
            self._add(_table_member(name), packed)
        self._tables.append(ArchivedTable(name=name, columns=list(columns), rows=count))

    def add_model(self, model_id: str, path: Path) -> str:
        """Add the file of a model. Return its SHA-256."""
        with path.open("rb") as file:
            return self._add(f"models/{model_id}.tar", file)

    def add_secret_key(self, secret_key: str) -> None:
        self._add(_SECRETS, io.BytesIO(json.dumps({"secret_key": secret_key}).encode()))

    def finish(self, revision: str, missing_models: list[str]) -> Manifest:
        manifest = Manifest(
            release=version("flow-nexus"),
            revision=revision,
            created_at=datetime.now(UTC),
            tables=self._tables,
            files=self._files,
            missing_models=missing_models,
        )
        self._add(_MANIFEST, io.BytesIO(manifest.model_dump_json(indent=2).encode()))
        return manifest

    def _add(self, name: str, file: BinaryIO) -> str:
        member = tarfile.TarInfo(name)
        member.size = file.seek(0, os.SEEK_END)
        member.mode = 0o600
        file.seek(0)
        hashed = _HashedReader(file)
        self._tar.addfile(member, hashed)
        sha256 = hashed.sha256.hexdigest()
        self._files[name] = ArchivedFile(size=member.size, sha256=sha256)
        return sha256


@contextmanager
def created(path: Path) -> Iterator[Writer]:
    """Yield the writer of a new backup.

    Raises:
        UsageError: There is a file already, or none can be written.
    """
    partial = path.with_name(path.name + ".part")
    if path.exists():
        raise UsageError(f"{path} exists already; a backup never replaces another")
    try:
        partial.unlink(missing_ok=True)
        file = os.fdopen(os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "w+b")
    except OSError as error:
        raise UsageError(f"{partial} cannot be written: {error.strerror}") from None
    try:
        with file:
            with tarfile.open(fileobj=file, mode="w") as tar:
                yield Writer(tar, partial.parent)
            file.flush()
            os.fsync(file.fileno())
        partial.rename(path)
    finally:
        partial.unlink(missing_ok=True)


class Reader:
    """Reads a backup. Call `verify` before anything is changed."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        try:
            self.manifest = Manifest.model_validate_json(self._member(_MANIFEST).read())
        except ValidationError:
            raise CliError("it is no backup of this service, or of a newer release") from None

    def verify(self) -> None:
        """Compare each member with the manifest.

        Raises:
            CliError: A member is missing or damaged, or has a name that no backup has.
        """
        tables = {_table_member(table.name) for table in self.manifest.tables}
        for name, expected in self.manifest.files.items():
            if name not in (*tables, _SECRETS) and not _MODEL.fullmatch(name):
                raise CliError(f"it holds {name!r}, which no backup holds")
            sha256, size = hashlib.sha256(), 0
            file = self._member(name)
            while block := file.read(_BLOCK):
                sha256.update(block)
                size += len(block)
            if (size, sha256.hexdigest()) != (expected.size, expected.sha256):
                raise CliError(f"{name} is damaged: its SHA-256 is not that of the manifest")
        if missing := tables - self.manifest.files.keys():
            raise CliError(f"{min(missing)} is missing")

    def rows(self, table: str) -> Iterator[bytes]:
        with gzip.GzipFile(fileobj=self._member(_table_member(table))) as rows:
            while block := rows.read(_BLOCK):
                yield block

    def models(self) -> list[str]:
        return [name for name in self.manifest.files if _MODEL.fullmatch(name)]

    def extract(self, name: str, folder: Path) -> None:
        """Write the file of a model. A crash leaves no part of it under its name."""
        target = folder / Path(name).name
        partial = target.with_suffix(".part")
        source = self._member(name)
        with partial.open("wb") as file:
            while block := source.read(_BLOCK):
                file.write(block)
        partial.replace(target)

    def secret_key(self) -> str | None:
        if _SECRETS not in self.manifest.files:
            return None
        return str(json.loads(self._member(_SECRETS).read())["secret_key"])

    def _member(self, name: str) -> BinaryIO:
        try:
            file = self._tar.extractfile(name)
        except (KeyError, tarfile.TarError):
            file = None
        if file is None:
            raise CliError(f"it has no {name}, so it is not complete")
        return file  # type: ignore[return-value]


@contextmanager
def opened(path: Path) -> Iterator[Reader]:
    """Yield the reader of a backup.

    Raises:
        CliError: The file cannot be read, or is no complete backup.
    """
    try:
        with tarfile.open(path, "r:") as tar:
            yield Reader(tar)
    except CliError as error:
        raise CliError(f"{path} cannot be restored: {error.message}", exit_code=error.exit_code) from None
    except (OSError, tarfile.TarError, EOFError) as error:
        raise CliError(f"{path} cannot be read: {getattr(error, 'strerror', None) or type(error).__name__}") from None


class _HashedReader:
    """A file whose SHA-256 is computed while it is read."""

    def __init__(self, file: BinaryIO) -> None:
        self.sha256 = hashlib.sha256()
        self._file = file

    def read(self, size: int = -1) -> bytes:
        block = self._file.read(size)
        self.sha256.update(block)
        return block


def _table_member(name: str) -> str:
    return f"database/{name}.copy.gz"

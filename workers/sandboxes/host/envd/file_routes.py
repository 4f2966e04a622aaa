"""Read and write whole files of a sandbox over HTTP, in constant memory.

A file is written under a temporary name in its folder. It is renamed when it is complete. So an
upload that breaks off leaves nothing behind.
"""

import asyncio
import contextlib
import errno
import os
import secrets
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response

from .limit_enforcer import LimitEnforcer
from .sandbox_paths import SandboxPaths, check_user

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

_BUFFER = 1 << 20


class FileRoutes:
    def __init__(self, paths: SandboxPaths, enforcer: LimitEnforcer) -> None:
        self._paths = paths
        self._enforcer = enforcer

    async def read(self, request: Request) -> Response:
        try:
            path = self._path(request, request.query_params.get("path"))
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, "Is a directory")
            if not path.is_file():
                raise FileNotFoundError(errno.ENOENT, "no such file")
            path.open("rb").close()
        except (OSError, ValueError) as error:
            return _problem(error)
        return FileResponse(path, media_type="application/octet-stream", filename=path.name)

    async def write(self, request: Request) -> Response:
        if self._enforcer.reached_storage_limit:
            return _problem(OSError(errno.ENOSPC, f"the sandbox's limit is reached: {self._enforcer.reached_storage_limit}"))
        content_type, options = parse_options_header(request.headers.get("content-type", ""))
        requested_path = request.query_params.get("path")
        written: list[Path] = []
        try:
            if content_type == b"multipart/form-data":
                parts = _MultipartFiles(lambda filename: _IncomingFile(self._path(request, requested_path or filename)))
                try:
                    await _write_body(request, MultipartParser(options[b"boundary"], parts.callbacks()).write)
                    written = parts.commit()
                finally:
                    parts.discard()
            else:
                with _IncomingFile(self._path(request, requested_path)) as incoming:
                    await _write_body(request, incoming.write)
                    written = [incoming.commit()]
        except ClientDisconnect:
            return _problem(ValueError("the upload broke off"))
        except (OSError, ValueError, KeyError, zlib.error) as error:
            return _problem(error)
        return JSONResponse([{"name": path.name, "type": "file", "path": self._paths.show(path)} for path in written])

    def _path(self, request: Request, path: str | None) -> Path:
        check_user(request.query_params.get("username"))
        if not path:
            raise ValueError("no path")
        return self._paths.resolve(path)


class _IncomingFile:
    """A file that is being received. It is discarded unless `commit` is called."""

    def __init__(self, path: Path) -> None:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "Is a directory")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._partial = path.parent / f".{secrets.token_hex(8)}.partial"
        self._file: BinaryIO = self._partial.open("xb", buffering=_BUFFER)

    def write(self, data: bytes) -> int:
        return self._file.write(data)

    def commit(self) -> Path:
        self._file.close()
        if self._path.is_file():
            self._partial.chmod(self._path.stat().st_mode & 0o7777)
        self._partial.replace(self._path)
        return self._path

    def discard(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()
        self._partial.unlink(missing_ok=True)

    def __enter__(self) -> "_IncomingFile":
        return self

    def __exit__(self, *_error: object) -> None:
        self.discard()


class _MultipartFiles:
    """The files of one multipart body. Each part has its path as its filename."""

    def __init__(self, open_file: Callable[[str], _IncomingFile]) -> None:
        self._open_file = open_file
        self._files: list[_IncomingFile] = []
        self._header = b""
        self._value = b""

    def callbacks(self) -> "MultipartCallbacks":
        return {
            "on_header_field": self._on_header_field,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_part_data": self._on_part_data,
        }

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            _, options = parse_options_header(self._value)
            self._files.append(self._open_file(options.get(b"filename", b"").decode()))
        self._header = self._value = b""

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if not self._files:
            raise ValueError("a part without a name")
        self._files[-1].write(data[start:end])

    def commit(self) -> list[Path]:
        return [file.commit() for file in self._files]

    def discard(self) -> None:
        for file in self._files:
            file.discard()


async def _write_body(request: Request, write: Callable[[bytes], int]) -> None:
    """Write the decompressed body in a thread, so that the disk does not block other streams."""
    async for chunk in _decompressed(request):
        await asyncio.to_thread(write, chunk)


async def _decompressed(request: Request) -> AsyncIterator[bytes]:
    encoding = request.headers.get("content-encoding", "identity")
    if encoding not in ("identity", "gzip"):
        raise ValueError(f"unknown content encoding '{encoding}'")
    inflate = zlib.decompressobj(wbits=31) if encoding == "gzip" else None
    async for chunk in request.stream():
        if inflate is None:
            yield chunk
            continue
        while chunk:
            yield inflate.decompress(chunk, _BUFFER)
            chunk = inflate.unconsumed_tail


def _problem(error: Exception) -> Response:
    """Return E2B's error body. Its message gives the reason, never a path outside the sandbox."""
    status = 400
    message = str(error)
    if isinstance(error, OSError):
        message = error.strerror or "input/output error"
        no_space = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        status = 404 if error.errno == errno.ENOENT else 507 if error.errno in no_space else 400
        if error.errno == errno.EACCES or error.errno == errno.EROFS:
            status, message = 400, os.strerror(errno.EACCES)
    return JSONResponse({"code": status, "message": message}, status)

"""Files into and out of a sandbox, streamed."""

import asyncio
import contextlib
import hashlib
import secrets
import shlex
from collections.abc import AsyncIterator
from pathlib import PurePosixPath

from e2b import AsyncSandbox, FileType

from api.domain.sandboxes import (
    Download,
    SandboxError,
    SandboxPathError,
    SandboxUnavailableError,
    StoredFile,
)
from workers.sandboxes.commands import run_command
from workers.sandboxes.sdk_errors import translate_sdk_errors
from workers.sandboxes.tar_check import checked_tar

_STALL_S = 60.0
_SHORT_S = 30.0
_TAR_S = 600.0
_MESSAGE_BYTES = 10_000


class _MeasuredStream:
    """Chunks on their way through: their number of bytes and SHA-256. Each one that passes puts the deadline off."""

    def __init__(self, chunks: AsyncIterator[bytes], deadline: asyncio.Timeout) -> None:
        self.size = 0
        self.sha256 = hashlib.sha256()
        self.failure: BaseException | None = None
        self._chunks = chunks
        self._deadline = deadline

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._chunks:
                self.size += len(chunk)
                self.sha256.update(chunk)
                yield chunk
                self._deadline.reschedule(asyncio.get_running_loop().time() + _STALL_S)
        except Exception as error:
            self.failure = error
            raise


def checked_path(path: str) -> PurePosixPath:
    """Raise SandboxPathError unless the path is absolute and names something below the root without `..`."""
    plain = PurePosixPath(path)
    if not plain.is_absolute() or ".." in plain.parts or "\0" in path or not plain.name:
        raise SandboxPathError("the path must be absolute and without '..'")
    return plain


async def upload(sandbox: AsyncSandbox, path: str, chunks: AsyncIterator[bytes], mode: int | None) -> StoredFile:
    """Write a file under a temporary name beside its place and rename it at the end, so that a cut upload leaves nothing."""
    place = checked_path(path)
    partial = str(place.parent / f".{secrets.token_hex(8)}.upload")
    try:
        measured = await _write(sandbox, partial, chunks)
        with translate_sdk_errors("put the file in its place"):
            if mode is not None:
                await _shell(sandbox, f"chmod {mode:o} {_quoted(partial)}", "set the file's mode")
            await sandbox.files.rename(partial, str(place), request_timeout=_SHORT_S)
    except BaseException:
        await asyncio.shield(_remove(sandbox, partial))
        raise
    return StoredFile(str(place), measured.size, measured.sha256.hexdigest())


async def _write(sandbox: AsyncSandbox, path: str, chunks: AsyncIterator[bytes]) -> _MeasuredStream:
    async with asyncio.timeout(_STALL_S) as deadline:
        measured = _MeasuredStream(chunks, deadline)
        try:
            with translate_sdk_errors("write the file"):
                await sandbox.files.write(path, measured)
        finally:
            # What broke the source of the bytes is the caller's to know, not what the SDK made of it.
            if measured.failure is not None:
                raise measured.failure
    return measured


async def download(sandbox: AsyncSandbox, path: str) -> Download:
    """A file as it is, a folder as a tar with names relative to the folder above it; one with links out of it is refused."""
    place = checked_path(path)
    with translate_sdk_errors("read the file"):
        info = await sandbox.files.get_info(str(place), request_timeout=_SHORT_S)
        if info.type == FileType.DIR:
            packed = f"/tmp/.{secrets.token_hex(8)}.tar"  # noqa: S108 (the sandbox's own)
            await _pack(sandbox, place, packed)
            size = (await sandbox.files.get_info(packed, request_timeout=_SHORT_S)).size
            chunks = checked_tar(_chunks(sandbox, packed, size, remove=True), place.name)
            return Download(chunks, f"{place.name}.tar", "application/x-tar", size)
        known = info.size if info.type == FileType.FILE else None
        return Download(_chunks(sandbox, str(place), known, remove=False), place.name, "application/octet-stream", known)


async def _chunks(sandbox: AsyncSandbox, path: str, size: int | None, *, remove: bool) -> AsyncIterator[bytes]:
    """Exactly `size` bytes where it is known: a file that grows meanwhile is cut there, one that shrinks is an error."""
    left = size
    try:
        with translate_sdk_errors("read the file"):
            async with await sandbox.files.read(path, format="stream") as reader:
                async for chunk in reader:
                    piece = chunk if left is None else chunk[:left]
                    yield piece
                    if left is not None and (left := left - len(piece)) == 0:
                        break
        if left:
            raise SandboxUnavailableError("the file changed while it was read")
    finally:
        if remove:
            await asyncio.shield(_remove(sandbox, path))


async def _pack(sandbox: AsyncSandbox, folder: PurePosixPath, packed: str) -> None:
    command = f"tar -C {_quoted(str(folder.parent))} -cf {_quoted(packed)} -- {shlex.quote(folder.name)}"
    result = await run_command(sandbox, command, timeout_s=_TAR_S, max_output=_MESSAGE_BYTES, stdin=None)
    # 1 means that a file changed while it was read: the archive is whole.
    if result.exit_code not in (0, 1):
        await _remove(sandbox, packed)
        raise SandboxError("the sandbox could not pack the folder")


async def _shell(sandbox: AsyncSandbox, command: str, what: str) -> None:
    result = await run_command(sandbox, command, timeout_s=_SHORT_S, max_output=_MESSAGE_BYTES, stdin=None)
    if result.exit_code != 0:
        raise SandboxError(f"the sandbox could not {what}")


def _quoted(path: str) -> str:
    """For the shell. SANDBOX_ROOT is set only where nothing isolates the sandbox and its root lies somewhere else."""
    return '"${SANDBOX_ROOT-}"' + shlex.quote(path)


async def _remove(sandbox: AsyncSandbox, path: str) -> None:
    with contextlib.suppress(SandboxError), translate_sdk_errors("remove a temporary file"):
        await sandbox.files.remove(path, request_timeout=_SHORT_S)

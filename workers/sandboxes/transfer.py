"""Stream files into and out of a sandbox."""

import asyncio
import contextlib
import hashlib
import secrets
import shlex
from collections.abc import AsyncIterator
from pathlib import PurePosixPath

from e2b import AsyncSandbox, EntryInfo, FileType

from api.domain.sandboxes import (
    Download,
    FileEntry,
    FileKind,
    SandboxError,
    SandboxFileExistsError,
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
    """A stream of chunks, measured in bytes and SHA-256. Each chunk extends the deadline."""

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
    """Return the parsed path.

    Raises:
        SandboxPathError: the path is not absolute, contains `..` or a NUL, or is the root.
    """
    parsed = PurePosixPath(path)
    if not parsed.is_absolute() or ".." in parsed.parts or "\0" in path or not parsed.name:
        raise SandboxPathError("the path must be absolute and without '..'")
    return parsed


async def upload(sandbox: AsyncSandbox, path: str, chunks: AsyncIterator[bytes], *, replaces: bool) -> StoredFile:
    """Write a file under a temporary name in its folder, then rename it.

    An upload that breaks off therefore leaves nothing behind.

    Raises:
        SandboxFileExistsError: without `replaces`, there is a file or folder at the path.
    """
    target = checked_path(path)
    partial = str(target.parent / f".{secrets.token_hex(8)}.upload")
    try:
        if not replaces:
            await _check_is_free(sandbox, target)
        measured = await _write(sandbox, partial, chunks)
        if replaces:
            with translate_sdk_errors("move the file to its path"):
                await sandbox.files.rename(partial, str(target), request_timeout=_SHORT_S)
        else:
            await _move_to_free_path(sandbox, partial, target)
    except BaseException:
        await asyncio.shield(remove_file(sandbox, partial))
        raise
    return StoredFile(str(target), measured.size, measured.sha256.hexdigest())


async def _check_is_free(sandbox: AsyncSandbox, target: PurePosixPath) -> None:
    with translate_sdk_errors("look for the file"):
        if await sandbox.files.exists(str(target), request_timeout=_SHORT_S):
            raise _exists(target)


async def _move_to_free_path(sandbox: AsyncSandbox, partial: str, target: PurePosixPath) -> None:
    """Give the file its path, unless something is there. Of two uploads, one makes the link."""
    names = f"{_quoted(partial)} {_quoted(str(target))}"
    command = f"ln -T {names} 2>/dev/null && rm -f {_quoted(partial)}"
    result = await run_command(sandbox, command, timeout_s=_SHORT_S, max_output=_MESSAGE_BYTES, stdin=None)
    if result.exit_code != 0:
        await _check_is_free(sandbox, target)
        raise SandboxError("the sandbox could not move the file to its path")


def _exists(target: PurePosixPath) -> SandboxFileExistsError:
    return SandboxFileExistsError(f"there is a file or folder at {target}, and it was not replaced")


async def _write(sandbox: AsyncSandbox, path: str, chunks: AsyncIterator[bytes]) -> _MeasuredStream:
    async with asyncio.timeout(_STALL_S) as deadline:
        measured = _MeasuredStream(chunks, deadline)
        try:
            with translate_sdk_errors("write the file"):
                await sandbox.files.write(path, measured)
        finally:
            # The caller needs its own source's error, not the SDK's error that follows from it.
            if measured.failure is not None:
                raise measured.failure
    return measured


async def download(sandbox: AsyncSandbox, path: str) -> Download:
    """Return a file's content, or a folder's content as a tar.

    Names in the tar are relative to the folder's parent. A folder with a link that leads out of it
    is refused while it is streamed.
    """
    source = checked_path(path)
    with translate_sdk_errors("read the file"):
        info = await sandbox.files.get_info(str(source), request_timeout=_SHORT_S)
        if info.type == FileType.DIR:
            packed = f"/tmp/.{secrets.token_hex(8)}.tar"  # noqa: S108 (the sandbox's own)
            await _pack(sandbox, source, packed)
            size = (await sandbox.files.get_info(packed, request_timeout=_SHORT_S)).size
            chunks = checked_tar(_chunks(sandbox, packed, size, remove=True), source.name)
            return Download(chunks, f"{source.name}.tar", "application/x-tar", size)
        file_size = info.size if info.type == FileType.FILE else None
        chunks = _chunks(sandbox, str(source), file_size, remove=False)
        return Download(chunks, source.name, "application/octet-stream", file_size)


async def list_files(sandbox: AsyncSandbox, path: str) -> list[FileEntry]:
    """Return what a folder has, by name. Folders come first."""
    folder = checked_path(path)
    with translate_sdk_errors("list the folder"):
        entries = await sandbox.files.list(str(folder), depth=1, request_timeout=_SHORT_S)
    listed = [_file_entry(entry) for entry in entries]
    return sorted(listed, key=lambda entry: (entry.kind != "folder", entry.name))


def _file_entry(entry: EntryInfo) -> FileEntry:
    if entry.symlink_target is not None:
        return FileEntry(entry.name, "other", None, entry.modified_time)
    kind: FileKind = "folder" if entry.type == FileType.DIR else "file" if entry.type == FileType.FILE else "other"
    return FileEntry(entry.name, kind, entry.size if kind == "file" else None, entry.modified_time)


async def _chunks(sandbox: AsyncSandbox, path: str, size: int | None, *, remove: bool) -> AsyncIterator[bytes]:
    """Yield exactly `size` bytes if the size is known.

    A file that grows meanwhile is cut at that size.

    Raises:
        SandboxUnavailableError: the file shrank while it was read.
    """
    left_bytes = size
    try:
        with translate_sdk_errors("read the file"):
            async with await sandbox.files.read(path, format="stream") as reader:
                async for chunk in reader:
                    piece = chunk if left_bytes is None else chunk[:left_bytes]
                    yield piece
                    if left_bytes is not None and (left_bytes := left_bytes - len(piece)) == 0:
                        break
        if left_bytes:
            raise SandboxUnavailableError("the file changed while it was read")
    finally:
        if remove:
            await asyncio.shield(remove_file(sandbox, path))


async def _pack(sandbox: AsyncSandbox, folder: PurePosixPath, packed: str) -> None:
    command = f"tar -C {_quoted(str(folder.parent))} -cf {_quoted(packed)} -- {shlex.quote(folder.name)}"
    result = await run_command(sandbox, command, timeout_s=_TAR_S, max_output=_MESSAGE_BYTES, stdin=None)
    # Exit code 1 means that a file changed while it was read. The archive is still complete.
    if result.exit_code not in (0, 1):
        await remove_file(sandbox, packed)
        raise SandboxError("the sandbox could not pack the folder")


def _quoted(path: str) -> str:
    """Quote a path for the shell, below SANDBOX_ROOT.

    SANDBOX_ROOT is set only for a sandbox without isolation, whose root lies in another folder.
    """
    return '"${SANDBOX_ROOT-}"' + shlex.quote(path)


async def remove_file(sandbox: AsyncSandbox, path: str) -> None:
    """Remove a file. A failure is ignored."""
    with contextlib.suppress(SandboxError), translate_sdk_errors("remove a file"):
        await sandbox.files.remove(path, request_timeout=_SHORT_S)

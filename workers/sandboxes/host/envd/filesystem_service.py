"""E2B's filesystem service.

Every path is resolved inside the sandbox, so links and `..` cannot lead out of it.
"""

import asyncio
import errno
import grp
import os
import pwd
import secrets
import shutil
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from connectrpc.request import RequestContext
from e2b.envd.filesystem import filesystem_pb as pb
from e2b.envd.filesystem.filesystem_connect import Filesystem
from protobuf import Oneof
from protobuf.wkt import Timestamp

from .folder_watcher import FolderChange, FolderWatcher
from .sandbox_paths import SandboxPaths

T = TypeVar("T")
Context = RequestContext[Any, Any]
_Started = Oneof[Literal["start"], pb.WatchDirResponse.StartEvent]
_Changed = Oneof[Literal["filesystem"], pb.FilesystemEvent]
_Quiet = Oneof[Literal["keepalive"], pb.WatchDirResponse.KeepAlive]
_MAX_ENTRIES = 100_000
_MAX_WATCHERS = 64
_CODES = {
    errno.ENOENT: Code.NOT_FOUND,
    errno.EEXIST: Code.ALREADY_EXISTS,
    errno.EACCES: Code.PERMISSION_DENIED,
    errno.EPERM: Code.PERMISSION_DENIED,
    errno.EROFS: Code.PERMISSION_DENIED,
    errno.ENOSPC: Code.RESOURCE_EXHAUSTED,
}


class FilesystemService(Filesystem):
    def __init__(self, paths: SandboxPaths) -> None:
        self._paths = paths
        self._watchers: dict[str, FolderWatcher] = {}

    async def stat(self, request: pb.StatRequest, _context: Context) -> pb.StatResponse:
        return pb.StatResponse(entry=await _run(lambda: self._entry(self._paths.resolve(request.path))))

    async def make_dir(self, request: pb.MakeDirRequest, _context: Context) -> pb.MakeDirResponse:
        path = self._paths.resolve(request.path)
        await _run(lambda: path.mkdir(parents=True))
        return pb.MakeDirResponse(entry=await _run(lambda: self._entry(path)))

    async def move(self, request: pb.MoveRequest, _context: Context) -> pb.MoveResponse:
        destination = self._paths.resolve(request.destination)

        def move() -> pb.EntryInfo:
            destination.parent.mkdir(parents=True, exist_ok=True)
            self._paths.resolve(request.source).replace(destination)
            return self._entry(destination)

        return pb.MoveResponse(entry=await _run(move))

    async def list_dir(self, request: pb.ListDirRequest, _context: Context) -> pb.ListDirResponse:
        folder = self._paths.resolve(request.path)
        return pb.ListDirResponse(entries=await _run(lambda: list(self._walk(folder, request.depth or 1))))

    async def remove(self, request: pb.RemoveRequest, _context: Context) -> pb.RemoveResponse:
        path = self._paths.resolve(request.path)

        def remove() -> None:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()

        await _run(remove)
        return pb.RemoveResponse()

    async def watch_dir(self, request: pb.WatchDirRequest, _context: Context) -> AsyncIterator[pb.WatchDirResponse]:
        watcher = self._make_watcher(request.path, request.recursive)
        yield pb.WatchDirResponse(event=_Started("start", pb.WatchDirResponse.StartEvent()))
        while True:
            changes = await _run(watcher.changes)
            for change in changes:
                yield pb.WatchDirResponse(event=_Changed("filesystem", self._event(watcher, change, request.include_entry)))
            if not changes and watcher.keep_alive_due():
                yield pb.WatchDirResponse(event=_Quiet("keepalive", pb.WatchDirResponse.KeepAlive()))
            await asyncio.sleep(watcher.interval_s)

    async def create_watcher(self, request: pb.CreateWatcherRequest, _context: Context) -> pb.CreateWatcherResponse:
        if len(self._watchers) >= _MAX_WATCHERS:
            raise ConnectError(Code.RESOURCE_EXHAUSTED, "too many watchers")
        watcher_id = secrets.token_hex(8)
        self._watchers[watcher_id] = self._make_watcher(request.path, request.recursive)
        return pb.CreateWatcherResponse(watcher_id=watcher_id)

    async def get_watcher_events(self, request: pb.GetWatcherEventsRequest, _context: Context) -> pb.GetWatcherEventsResponse:
        watcher = self._watchers.get(request.watcher_id)
        if watcher is None:
            raise ConnectError(Code.NOT_FOUND, "no such watcher")
        changes = await _run(watcher.changes)
        return pb.GetWatcherEventsResponse(events=[self._event(watcher, change, False) for change in changes])

    async def remove_watcher(self, request: pb.RemoveWatcherRequest, _context: Context) -> pb.RemoveWatcherResponse:
        self._watchers.pop(request.watcher_id, None)
        return pb.RemoveWatcherResponse()

    def _make_watcher(self, path: str, recursive: bool) -> FolderWatcher:
        folder = self._paths.resolve(path)
        if not folder.is_dir():
            missing = not folder.exists()
            raise ConnectError(Code.NOT_FOUND if missing else Code.INVALID_ARGUMENT, "only a folder can be watched")
        return FolderWatcher(folder, recursive=recursive)

    def _event(self, watcher: FolderWatcher, change: FolderChange, include_entry: bool) -> pb.FilesystemEvent:
        entry = None
        path = watcher.folder / change.name
        if include_entry and path.exists():
            entry = self._entry(path)
        return pb.FilesystemEvent(name=change.name, type=pb.EventType[change.event], entry=entry)

    def _walk(self, folder: Path, depth: int) -> Iterator[pb.EntryInfo]:
        count = 0
        for path in sorted(folder.iterdir()):
            count += 1
            if count > _MAX_ENTRIES:
                raise OSError(errno.EOVERFLOW, "the folder has too many entries to list")
            try:
                entry = self._entry(path)
            except FileNotFoundError:
                continue
            yield entry
            if depth > 1 and entry.type == pb.FileType.DIRECTORY and not entry.is_symlink:
                yield from self._walk(path, depth - 1)

    def _entry(self, path: Path) -> pb.EntryInfo:
        entry_status = path.lstat()
        is_link = stat.S_ISLNK(entry_status.st_mode)
        try:
            status = path.stat() if is_link else entry_status
        except OSError:
            status = entry_status
        is_folder = stat.S_ISDIR(status.st_mode)
        return pb.EntryInfo(
            name=path.name,
            type=pb.FileType.DIRECTORY if is_folder else pb.FileType.FILE,
            path=self._paths.show(path),
            size=status.st_size,
            mode=status.st_mode & 0o7777,
            permissions=stat.filemode(entry_status.st_mode),
            owner=_name_or_number(lambda: pwd.getpwuid(entry_status.st_uid).pw_name, entry_status.st_uid),
            group=_name_or_number(lambda: grp.getgrgid(entry_status.st_gid).gr_name, entry_status.st_gid),
            modified_time=Timestamp.from_nanos(entry_status.st_mtime_ns),
            is_symlink=is_link,
            symlink_target=str(path.readlink()) if is_link else None,
        )


def _name_or_number(look_up: Callable[[], str], number: int) -> str:
    try:
        return look_up()
    except KeyError:
        return str(number)


async def _run(work: Callable[[], T]) -> T:
    """Run blocking work in a thread.

    Raises:
        ConnectError: the work raised OSError. The message has only its reason.
    """
    try:
        return await asyncio.to_thread(work)
    except OSError as error:
        code = _CODES.get(error.errno or 0, Code.INVALID_ARGUMENT)
        raise ConnectError(code, os.strerror(error.errno) if error.errno else "input/output error") from error

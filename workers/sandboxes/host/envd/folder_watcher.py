"""What changed in a folder, by comparing what it held before with what it holds now.

Polling sees less than inotify (two changes within one interval are one), but behaves the same on every system.
"""

import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

_KEEP_ALIVE_S = 15.0
_MAX_ENTRIES = 20_000
Kind = Literal["CREATE", "WRITE", "REMOVE", "RENAME", "CHMOD"]


@dataclass(frozen=True, slots=True)
class FolderChange:
    name: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class _EntryState:
    inode: int
    mode: int
    written: tuple[int, int]


class FolderWatcher:
    interval_s = 0.2

    def __init__(self, folder: Path, *, recursive: bool) -> None:
        self.folder = folder
        self._recursive = recursive
        self._before = self._scan()
        self._told = time.monotonic()

    def quiet(self) -> bool:
        """Whether nothing was told for so long that a sign of life is due."""
        now = time.monotonic()
        due = now - self._told > _KEEP_ALIVE_S
        if due:
            self._told = now
        return due

    def changes(self) -> list[FolderChange]:
        before, after = self._before, self._scan()
        self._before = after
        arrived = {seen.inode for name, seen in after.items() if name not in before}
        found: list[FolderChange] = []
        for name, seen in before.items():
            now = after.get(name)
            if now is None:
                found.append(FolderChange(name, "RENAME" if seen.inode in arrived else "REMOVE"))
            elif now.written != seen.written and not stat.S_ISDIR(now.mode):
                found.append(FolderChange(name, "WRITE"))
            elif now.mode != seen.mode:
                found.append(FolderChange(name, "CHMOD"))
        for name, seen in after.items():
            if name not in before:
                found.append(FolderChange(name, "CREATE"))
                if stat.S_ISREG(seen.mode) and seen.written[0]:
                    found.append(FolderChange(name, "WRITE"))
        if found:
            self._told = time.monotonic()
        return found

    def _scan(self) -> dict[str, _EntryState]:
        found: dict[str, _EntryState] = {}
        pending = [self.folder]
        while pending:
            try:
                entries = list(os.scandir(pending.pop()))
            except OSError:
                continue
            for entry in entries:
                if len(found) >= _MAX_ENTRIES:
                    return found
                try:
                    status = entry.stat(follow_symlinks=False)
                except OSError:
                    continue
                name = os.path.relpath(entry.path, self.folder)
                found[name] = _EntryState(status.st_ino, status.st_mode, (status.st_size, status.st_mtime_ns))
                if self._recursive and entry.is_dir(follow_symlinks=False):
                    pending.append(Path(entry.path))
        return found

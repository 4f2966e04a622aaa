"""Find the changes in a folder by comparing two scans of it.

Polling sees less than inotify: two changes within one interval are one. But it behaves the same on
every system.
"""

import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

_KEEP_ALIVE_S = 15.0
_MAX_ENTRIES = 20_000
ChangeEvent = Literal["CREATE", "WRITE", "REMOVE", "RENAME", "CHMOD"]


@dataclass(frozen=True, slots=True)
class FolderChange:
    name: str
    event: ChangeEvent


@dataclass(frozen=True, slots=True)
class _EntryState:
    """`written` is the size in bytes and the time of the last write in ns."""

    inode: int
    mode: int
    written: tuple[int, int]


class FolderWatcher:
    interval_s = 0.2

    def __init__(self, folder: Path, *, recursive: bool) -> None:
        self.folder = folder
        self._recursive = recursive
        self._before = self._scan()
        self._last_message = time.monotonic()

    def keep_alive_due(self) -> bool:
        """Return whether no change was reported for so long that a keep-alive message is due."""
        now = time.monotonic()
        due = now - self._last_message > _KEEP_ALIVE_S
        if due:
            self._last_message = now
        return due

    def changes(self) -> list[FolderChange]:
        before, after = self._before, self._scan()
        self._before = after
        new_inodes = {state.inode for name, state in after.items() if name not in before}
        changes: list[FolderChange] = []
        for name, state in before.items():
            now = after.get(name)
            if now is None:
                changes.append(FolderChange(name, "RENAME" if state.inode in new_inodes else "REMOVE"))
            elif now.written != state.written and not stat.S_ISDIR(now.mode):
                changes.append(FolderChange(name, "WRITE"))
            elif now.mode != state.mode:
                changes.append(FolderChange(name, "CHMOD"))
        for name, state in after.items():
            if name not in before:
                changes.append(FolderChange(name, "CREATE"))
                if stat.S_ISREG(state.mode) and state.written[0]:
                    changes.append(FolderChange(name, "WRITE"))
        if changes:
            self._last_message = time.monotonic()
        return changes

    def _scan(self) -> dict[str, _EntryState]:
        states: dict[str, _EntryState] = {}
        pending = [self.folder]
        while pending:
            try:
                entries = list(os.scandir(pending.pop()))
            except OSError:
                continue
            for entry in entries:
                if len(states) >= _MAX_ENTRIES:
                    return states
                try:
                    status = entry.stat(follow_symlinks=False)
                except OSError:
                    continue
                name = os.path.relpath(entry.path, self.folder)
                states[name] = _EntryState(status.st_ino, status.st_mode, (status.st_size, status.st_mtime_ns))
                if self._recursive and entry.is_dir(follow_symlinks=False):
                    pending.append(Path(entry.path))
        return states

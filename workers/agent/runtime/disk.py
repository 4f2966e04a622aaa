"""The disk of this sandbox."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

# The local host limits what a sandbox's folders hold. The file system does not show that limit.
LIMIT_VARIABLE = "SANDBOX_DISK_BYTES"
_FOLDERS = ("data", "model", "export", "home", "tmp")
_BLOCK = 512


def left(root: Path) -> int:
    """Return the bytes that this sandbox may still write. `root` is its root folder.

    Under namespaces the root is a small file system of its own. The folders lie on another one.
    """
    places = [place for name in _FOLDERS if (place := root / name).is_dir()] or [root]
    free = min(shutil.disk_usage(place).free for place in places)
    limit = os.environ.get(LIMIT_VARIABLE, "")
    return min(free, int(limit) - _used(root)) if limit.isdecimal() else free


def _used(root: Path) -> int:
    pending = [str(root / name) for name in _FOLDERS]
    used = 0
    while pending:
        for entry in _entries(pending.pop()):
            used += entry.stat(follow_symlinks=False).st_blocks * _BLOCK
            if entry.is_dir(follow_symlinks=False):
                pending.append(entry.path)
    return used


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except OSError:  # It does not exist, or it was removed meanwhile.
        return

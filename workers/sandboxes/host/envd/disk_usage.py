"""Measure a sandbox's own folders, so that hostile code has few ways to hide from the count.

Folders that deny access to their own user are opened. Paths may be longer than the kernel accepts
in one call. Files that were removed but are still open count too. Their blocks are in use until
the process closes them.
"""

import errno
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

_PROC = Path("/proc")
_LONG_PATH = 200
_BLOCK = 512


@dataclass(slots=True)
class DiskUsage:
    """Bytes on disk and number of entries.

    `hiding` has the ids of processes that do not show which files they have open.
    """

    bytes: int = 0
    files: int = 0
    hiding: set[int] = field(default_factory=set)


class _OpenFolder:
    """An open folder that other paths are relative to. It is closed when no path refers to it."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __del__(self) -> None:
        os.close(self.descriptor)


def measure_disk(folders: Iterable[str], *, own_processes: bool, stop_above: DiskUsage | None = None) -> DiskUsage:
    """Measure all that lies below `folders`.

    What the host mounted below them is not the sandbox's own, for example Python. Stop as soon as
    the count is above `stop_above`. With `own_processes`, /proc shows only the sandbox's processes.
    Then removed files that they have open count too.
    """
    usage = DiskUsage()
    mounted = _mount_points()
    devices = set()
    # Each entry has a folder, a path relative to it, and the whole path. The whole path is None if
    # nothing is mounted below.
    pending: list[tuple[_OpenFolder | None, str, str | None]] = []
    for folder in folders:
        try:
            devices.add(Path(folder).lstat().st_dev)
        except OSError:
            continue
        pending.append((None, folder, folder))
    while pending and (stop_above is None or (usage.bytes <= stop_above.bytes and usage.files <= stop_above.files)):
        base, path, whole_path = pending.pop()
        try:
            opened = _OpenFolder(_open(base, path))
        except OSError:
            continue
        is_long = len(path) > _LONG_PATH
        for entry in os.scandir(opened.descriptor):
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            usage.files += 1
            usage.bytes += status.st_blocks * _BLOCK
            entry_path = None if whole_path is None else f"{whole_path}/{entry.name}"
            if stat.S_ISDIR(status.st_mode) and entry_path not in mounted:
                if entry_path is not None and not any(point.startswith(f"{entry_path}/") for point in mounted):
                    entry_path = None
                pending.append((opened, entry.name, entry_path) if is_long else (base, f"{path}/{entry.name}", entry_path))
    if own_processes:
        _count_removed_files(usage, devices)
    return usage


def _open(base: _OpenFolder | None, path: str) -> int:
    """Open a folder. If it denies access to its own user, allow access first."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    base_descriptor = base.descriptor if base else None
    try:
        return os.open(path, flags, dir_fd=base_descriptor)
    except PermissionError:
        os.chmod(path, 0o700, dir_fd=base_descriptor)
        return os.open(path, flags, dir_fd=base_descriptor)


def _count_removed_files(usage: DiskUsage, devices: set[int]) -> None:
    counted: set[tuple[int, int]] = set()
    for folder in _PROC.iterdir():
        if not folder.name.isdigit():
            continue
        try:
            for status in _open_files(folder / "fd"):
                key = (status.st_dev, status.st_ino)
                if stat.S_ISREG(status.st_mode) and not status.st_nlink and status.st_dev in devices and key not in counted:
                    counted.add(key)
                    usage.files += 1
                    usage.bytes += status.st_blocks * _BLOCK
        except PermissionError:
            usage.hiding.add(int(folder.name))
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ESRCH):
                raise


def _open_files(descriptors: Path) -> Iterator[os.stat_result]:
    for entry in os.scandir(descriptors):
        try:
            yield Path(entry.path).stat()
        except FileNotFoundError:
            continue


def _mount_points() -> set[str]:
    if sys.platform != "linux":
        return set()
    return {line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()}

"""What a sandbox's own folders hold, counted so that hostile code has few ways to hide from the count.

Folders that were closed to their own user are opened, paths may be longer than the kernel takes in one piece, and files
that were removed while a process still has them open count as well: their blocks are in use until it closes them.
"""

import errno
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

_PROC = Path("/proc")
_LONG = 200
_BLOCK = 512


@dataclass(slots=True)
class DiskUsage:
    """Bytes on disk and number of entries; `hiding` are the processes that do not show which files they have open."""

    bytes: int = 0
    files: int = 0
    hiding: set[int] = field(default_factory=set)


class _OpenFolder:
    """An open folder that others are named relative to; closed when the last of them has been seen."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __del__(self) -> None:
        os.close(self.descriptor)


def measure_disk(folders: Iterable[str], *, own_processes: bool, enough: DiskUsage | None = None) -> DiskUsage:
    """Count below `folders`; what the host mounted among them, Python say, is not the sandbox's own. Stop above `enough`."""
    use = DiskUsage()
    mounted = _mount_points()
    devices = set()
    # Each with the folder it is named relative to, and with its whole path as long as something is mounted below it.
    pending: list[tuple[_OpenFolder | None, str, str | None]] = []
    for folder in folders:
        try:
            devices.add(Path(folder).lstat().st_dev)
        except OSError:
            continue
        pending.append((None, folder, folder))
    while pending and (enough is None or (use.bytes <= enough.bytes and use.files <= enough.files)):
        base, path, whole = pending.pop()
        try:
            opened = _OpenFolder(_open(base, path))
        except OSError:
            continue
        long = len(path) > _LONG
        for entry in os.scandir(opened.descriptor):
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            use.files += 1
            use.bytes += status.st_blocks * _BLOCK
            below = None if whole is None else f"{whole}/{entry.name}"
            if stat.S_ISDIR(status.st_mode) and below not in mounted:
                if below is not None and not any(point.startswith(f"{below}/") for point in mounted):
                    below = None
                pending.append((opened, entry.name, below) if long else (base, f"{path}/{entry.name}", below))
    if own_processes:
        _count_removed(use, devices)
    return use


def _open(base: _OpenFolder | None, path: str) -> int:
    """A folder that its user closed to itself is opened for both: nobody else can have closed it."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    above = base.descriptor if base else None
    try:
        return os.open(path, flags, dir_fd=above)
    except PermissionError:
        os.chmod(path, 0o700, dir_fd=above)
        return os.open(path, flags, dir_fd=above)


def _count_removed(use: DiskUsage, devices: set[int]) -> None:
    seen: set[tuple[int, int]] = set()
    for folder in _PROC.iterdir():
        if not folder.name.isdigit():
            continue
        try:
            for status in _open_files(folder / "fd"):
                key = (status.st_dev, status.st_ino)
                if stat.S_ISREG(status.st_mode) and not status.st_nlink and status.st_dev in devices and key not in seen:
                    seen.add(key)
                    use.files += 1
                    use.bytes += status.st_blocks * _BLOCK
        except PermissionError:
            use.hiding.add(int(folder.name))
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

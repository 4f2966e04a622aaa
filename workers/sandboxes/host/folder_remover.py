"""Folders of ended sandboxes on their way out. A sandbox may leave a million files, or a hundred thousand folders in one
another, so removing takes its time and is left to a program that cares about neither."""

import asyncio
import logging
import secrets
import subprocess
from pathlib import Path

_LOG = logging.getLogger(__name__)
_REMOVE_S = 600.0


class FolderRemover:
    """Lies on the same file system as the sandboxes, so that taking a folder is one rename."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._removing: set[asyncio.Future[None]] = set()

    def remove_leftovers(self) -> None:
        """Also removes what an earlier host left."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in self._folder.iterdir():
            self._remove_soon(folder)

    def remove_later(self, folder: Path) -> None:
        """Return as soon as the folder is out of its place."""
        place = self._folder / secrets.token_hex(8)
        try:
            folder.rename(place)
        except FileNotFoundError:
            return
        self._remove_soon(place)

    def _remove_soon(self, folder: Path) -> None:
        removing = asyncio.get_running_loop().run_in_executor(None, remove_folder, folder)
        self._removing.add(removing)
        removing.add_done_callback(self._removing.discard)


def remove_folder(folder: Path) -> None:
    """Remove files and folders, also those that were closed to their own user; links are never followed."""
    if _run("rm", "-rf", "--", str(folder)):
        return
    _run("chmod", "-R", "u+rwX", "--", str(folder))
    if not _run("rm", "-rf", "--", str(folder)):
        _LOG.warning("could not remove all of an ended sandbox's files")


def _run(*command: str) -> bool:
    try:
        done = subprocess.run(command, stderr=subprocess.DEVNULL, timeout=_REMOVE_S, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0

"""Remove the folders of ended sandboxes.

A sandbox may leave a million files, or a hundred thousand nested folders. Removing them takes time.
So a separate program does it, which copes with both.
"""

import asyncio
import logging
import secrets
import subprocess
from pathlib import Path

_LOG = logging.getLogger(__name__)
_REMOVE_S = 600.0


class FolderRemover:
    """Its folder lies on the sandboxes' file system, so moving a folder there is one rename."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._removals: set[asyncio.Future[None]] = set()

    def remove_leftovers(self) -> None:
        """Create the folder, and start to remove what an earlier host left in it."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in self._folder.iterdir():
            self._start_removal(folder)

    def remove_later(self, folder: Path) -> None:
        """Move the folder out of its place, start to remove it, and return."""
        moved = self._folder / secrets.token_hex(8)
        try:
            folder.rename(moved)
        except FileNotFoundError:
            return
        self._start_removal(moved)

    def _start_removal(self, folder: Path) -> None:
        removal = asyncio.get_running_loop().run_in_executor(None, remove_folder, folder)
        self._removals.add(removal)
        removal.add_done_callback(self._removals.discard)


def remove_folder(folder: Path) -> None:
    """Remove a folder, also one that denies access to its own user. Links are never followed."""
    if _run("rm", "-rf", "--", str(folder)):
        return
    _run("chmod", "-R", "u+rwX", "--", str(folder))
    if not _run("rm", "-rf", "--", str(folder)):
        _LOG.warning("could not remove all files of an ended sandbox")


def _run(*command: str) -> bool:
    try:
        completed = subprocess.run(command, stderr=subprocess.DEVNULL, timeout=_REMOVE_S, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return False
    return completed.returncode == 0

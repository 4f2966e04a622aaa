"""Paths as clients name them, and as envd sees them."""

import posixpath
from pathlib import Path

HOME = "/home/user"
USER = "user"


class SandboxPaths:
    """Maps the sandbox's absolute paths to envd's own, which differ only where nothing isolates the sandbox."""

    def __init__(self, root: str) -> None:
        self._root = root.rstrip("/")

    def resolve(self, path: str) -> Path:
        """A client's path; relative ones start at the user's home, `..` never climbs above the root."""
        if path == "~" or path.startswith("~/"):
            path = HOME + path[1:]
        plain = posixpath.normpath("/" + posixpath.join(HOME, path))
        return Path(self._root + "/" + plain.lstrip("/"))

    def show(self, path: Path) -> str:
        """The path as the sandbox's own processes would name it."""
        return str(path).removeprefix(self._root) or "/"


def check_user(name: str | None) -> None:
    """Every process of a sandbox is the one user `user`; raise ValueError for any other."""
    if name not in (None, "", USER):
        raise ValueError(f"this host's sandboxes have one user, '{USER}', so nothing runs as '{name}'")

"""Translate between the paths that clients use and the paths that envd uses."""

import posixpath
from pathlib import Path

HOME = "/home/user"
USER = "user"


class SandboxPaths:
    """Maps the sandbox's paths to envd's. They differ only for a sandbox without isolation."""

    def __init__(self, root: str) -> None:
        self._root = root.rstrip("/")

    def resolve(self, path: str) -> Path:
        """Return envd's path for a client's path.

        A relative path starts at the user's home. `..` never leads above the root.
        """
        if path == "~" or path.startswith("~/"):
            path = HOME + path[1:]
        normal = posixpath.normpath("/" + posixpath.join(HOME, path))
        return Path(self._root + "/" + normal.lstrip("/"))

    def show(self, path: Path) -> str:
        """Return the path as the sandbox's own processes name it."""
        return str(path).removeprefix(self._root) or "/"


def check_user(name: str | None) -> None:
    """Raise ValueError for any user but `user`, the one user of a sandbox."""
    if name not in (None, "", USER):
        raise ValueError(f"sandboxes of this host have one user, '{USER}', so nothing can run as '{name}'")

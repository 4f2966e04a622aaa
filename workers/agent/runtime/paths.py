"""Paths in requests: absolute in the sandbox, and never outside its root."""

import os
from pathlib import Path, PurePosixPath

from workers.agent.protocol.data import LARGEST_FILE
from workers.agent.runtime.errors import AgentError

_WILD = frozenset("*?[")


class SandboxRoot:
    """The sandbox's root folder: "/" in a real sandbox, any folder in a test."""

    def __init__(self, folder: Path, largest_file: int = LARGEST_FILE) -> None:
        """`largest_file` is the largest data file in bytes, the same as the largest upload."""
        self.folder = folder.resolve()
        self.largest_file = largest_file

    @property
    def models(self) -> Path:
        return self.folder / "model"

    @property
    def encoded(self) -> Path:
        """The folder of token ids, which later rounds and a restarted agent use again."""
        return self.models / ".encoded"

    @property
    def exports(self) -> Path:
        return self.folder / "export"

    def resolve(self, path: str) -> Path:
        """Return the file or folder at `path`, with links followed.

        Raises: AgentError `path_not_allowed` if it leads outside the root.
        """
        resolved = _followed(self.folder / self._relative(path))
        if not resolved.is_relative_to(self.folder):
            raise AgentError("path_not_allowed", "the path leads outside the sandbox")
        return resolved

    def files(self, pattern: str) -> list[Path]:
        """Return the regular files of a path or glob, sorted, without links that lead outside.

        Raises: AgentError `path_not_allowed`.
        """
        relative = self._relative(pattern)
        if not _WILD & set(pattern):
            paths = [self.resolve(pattern)]
        else:
            try:
                paths = sorted(_followed(path) for path in self.folder.glob(relative))
            except ValueError:
                raise AgentError("path_not_allowed", "the pattern is invalid: '**' matches whole folders only") from None
        return [path for path in paths if path.is_relative_to(self.folder) and _is_file(path)]

    def stamps(self, pattern: str) -> list[tuple[str, int, int]]:
        """Return path, size in bytes and time of change (ns) of each file that `pattern` names.

        Raises: AgentError `path_not_allowed`.
        """
        stats = [(path, path.stat()) for path in self.files(pattern)]
        return [(str(path), stat.st_size, stat.st_mtime_ns) for path, stat in stats]

    def shown(self, path: Path) -> str:
        """Return `path` as the sandbox's own programs see it."""
        return "/" + path.relative_to(self.folder).as_posix()

    @staticmethod
    def _relative(path: str) -> str:
        pure = PurePosixPath(path)
        if "\0" in path or not pure.is_absolute() or ".." in pure.parts or len(pure.parts) < 2:
            raise AgentError("path_not_allowed", "a path must be absolute and without '..'")
        return str(pure.relative_to(pure.anchor))


def _followed(path: Path) -> Path:
    # Before Python 3.13 Path.resolve() raises on circular links. For these, realpath() returns a
    # path that does not exist.
    return Path(os.path.realpath(path))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # The name is longer than the file system allows.
        return False

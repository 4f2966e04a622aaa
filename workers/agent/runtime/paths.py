"""Paths as requests name them: absolute in the sandbox, and never outside its root."""

import os
from pathlib import Path, PurePosixPath

from workers.agent.runtime.errors import AgentError

_WILD = frozenset("*?[")


class SandboxRoot:
    """The sandbox's root folder: "/" in a real sandbox, any folder in a test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()

    @property
    def models(self) -> Path:
        return self.folder / "model"

    @property
    def exports(self) -> Path:
        return self.folder / "export"

    def resolve(self, path: str) -> Path:
        """The file or folder that `path` names, links followed; AgentError `path_not_allowed` when it leads outside."""
        resolved = _followed(self.folder / self._relative(path))
        if not resolved.is_relative_to(self.folder):
            raise AgentError("path_not_allowed", "the path leads outside the sandbox")
        return resolved

    def files(self, pattern: str) -> list[Path]:
        """The regular files that a path or glob names, in sorted order; links that lead outside are left out."""
        relative = self._relative(pattern)
        if not _WILD & set(pattern):
            found = [self.resolve(pattern)]
        else:
            try:
                found = sorted(_followed(path) for path in self.folder.glob(relative))
            except ValueError:
                raise AgentError("path_not_allowed", "the pattern is none: '**' stands for whole folders only") from None
        return [path for path in found if path.is_relative_to(self.folder) and _is_file(path)]

    def shown(self, path: Path) -> str:
        """`path` as the sandbox's own programs see it."""
        return "/" + path.relative_to(self.folder).as_posix()

    @staticmethod
    def _relative(path: str) -> str:
        pure = PurePosixPath(path)
        if "\0" in path or not pure.is_absolute() or ".." in pure.parts or len(pure.parts) < 2:
            raise AgentError("path_not_allowed", "a path must be absolute and without '..'")
        return str(pure.relative_to(pure.anchor))


def _followed(path: Path) -> Path:
    # Path.resolve() raises on links in a circle until Python 3.13; what is left of them names no file.
    return Path(os.path.realpath(path))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name longer than the file system takes
        return False

"""Paths as requests name them: absolute in the sandbox, and never outside its root."""

from pathlib import Path, PurePosixPath

from workers.agent.errors import AgentError

_WILD = frozenset("*?[")


class Root:
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
        resolved = (self.folder / self._relative(path)).resolve()
        if not resolved.is_relative_to(self.folder):
            raise AgentError("path_not_allowed", "the path leads outside the sandbox")
        return resolved

    def files(self, pattern: str) -> list[Path]:
        """The regular files that a path or glob names, in sorted order; links that lead outside are left out."""
        relative = self._relative(pattern)
        if not _WILD & set(pattern):
            found = [self.resolve(pattern)]
        else:
            found = sorted(path.resolve() for path in self.folder.glob(relative))
        return [path for path in found if path.is_file() and path.is_relative_to(self.folder)]

    def shown(self, path: Path) -> str:
        """`path` as the sandbox's own programs see it."""
        return "/" + path.relative_to(self.folder).as_posix()

    @staticmethod
    def _relative(path: str) -> str:
        pure = PurePosixPath(path)
        if "\0" in path or not pure.is_absolute() or ".." in pure.parts or len(pure.parts) < 2:
            raise AgentError("path_not_allowed", "a path must be absolute and without '..'")
        return str(pure.relative_to("/"))

"""Paths inside a sandbox, as clients may name them."""

from pathlib import PurePosixPath

from api.domain.errors import FieldError, InvalidError

MAX_PATH = 1024
_GLOB = frozenset("*?[")


def check_path(path: str, pointer: str, *, glob: bool = False) -> str:
    """Return the normalized absolute path. `glob` allows `*`, `?` and `[…]`.

    Raises:
        InvalidError: the path is not allowed. The error names `pointer`.
    """
    problem = None
    if not path or len(path) > MAX_PATH:
        problem = f"a path has 1 to {MAX_PATH} characters"
    elif not path.startswith("/"):
        problem = "the path must be absolute inside the sandbox, such as /data/train.json"
    elif ".." in PurePosixPath(path).parts:
        problem = "the path must not contain '..'"
    elif any(ord(char) < 32 or ord(char) == 127 or 0xD800 <= ord(char) <= 0xDFFF for char in path):
        problem = "the path must not contain control characters or lone surrogates"
    elif not glob and _GLOB & set(path):
        problem = "the path must not contain the wildcards * ? ["
    if problem:
        raise InvalidError("invalid_path", problem, errors=(FieldError(pointer, problem),))
    return str(PurePosixPath(path))

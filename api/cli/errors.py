"""Errors of a command: one line for people on stderr, and an exit code for scripts."""

from typing import Final

USAGE: Final = 2
FAILURE: Final = 1


class CliError(Exception):
    """The command ends with one line.

    Exit code 2: the request is wrong (flags, or a 4xx of the API).
    Exit code 1: the server, the network or the work itself failed.
    """

    def __init__(self, message: str, *, exit_code: int = FAILURE) -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code


class UsageError(CliError):
    """The command has an argument that cannot work."""

    def __init__(self, message: str) -> None:
        super().__init__(message, exit_code=USAGE)

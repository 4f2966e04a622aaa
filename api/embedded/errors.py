"""Errors of the embedded stack."""

from api.embedded.extras import install_command


class StackError(Exception):
    """The stack cannot start; the message is one line for the person who started it."""


class StackInterruptedError(StackError):
    """The user interrupted the start."""

    def __init__(self) -> None:
        super().__init__("interrupted")


def not_installed(part: str, module: str) -> StackError:
    """Return the error of a part whose Python module is missing."""
    return StackError(f"the embedded {part} is not installed: {install_command(module)}")

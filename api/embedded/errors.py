"""Errors of the embedded stack."""


class StackError(Exception):
    """The stack cannot start; the message is one line for the person who started it."""


class StackInterruptedError(StackError):
    """The user interrupted the start."""

    def __init__(self) -> None:
        super().__init__("interrupted")

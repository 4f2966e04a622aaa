"""Why a stack does not come up."""


class StackError(Exception):
    """The stack cannot start; the message is one line for the person who started it."""


class StackInterruptedError(StackError):
    """Whoever starts the stack no longer wants it."""

    def __init__(self) -> None:
        super().__init__("interrupted")

"""What `ps` shows of a forked process. Without this it would show its parent's command line."""

import ctypes
from collections.abc import Sequence
from pathlib import Path

ROOM = "-" * 500
_PR_SET_NAME = 15
_ARGUMENTS_START, _ARGUMENTS_END = 45, 46


def set_title(arguments: Sequence[str]) -> None:
    """Show `arguments` as this process's command line (Linux).

    They are cut if they are longer than the program's own command line. So a program that forks
    has ROOM as its last argument.
    """
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = int(fields[_ARGUMENTS_START]), int(fields[_ARGUMENTS_END])
    # The kernel needs the last byte to be zero.
    room = end - start - 1
    text = "\0".join(arguments).encode()[:room]
    ctypes.memmove(start, text.ljust(room, b"\0"), room)
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_NAME, Path(arguments[0]).name.encode(), 0, 0, 0)

"""A command and everything that came of it, also what left its process group.

A command with a deadline adopts its orphans, so as long as it lives all that it started is below it. Linux only; elsewhere
the process group is all there is.
"""

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
_ROUNDS = 50
_PROC = Path("/proc")
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def adopt_orphans() -> None:
    """For a command's own process, before it becomes the command."""
    if _libc is not None:
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def kill_tree(pid: int) -> None:
    _kill(lambda: _below({pid}, _children()))


def with_descendants(pids: set[int]) -> set[int]:
    """The processes below some, with themselves."""
    return _below(pids, _children())


def kill_unrelated(kept: set[int]) -> None:
    """For the first process of a namespace: kill all but itself and what is below the `kept`."""

    def strays() -> set[int]:
        children = _children()
        return {pid for below in children.values() for pid in below} - {os.getpid()} - _below(kept, children)

    _kill(strays)


def _kill(find: Callable[[], set[int]]) -> None:
    """Stop all of them first, so that nothing forks away from the kill; then kill."""
    stopped: set[int] = set()
    for _ in range(_ROUNDS):
        found = find() - stopped
        if not found:
            break
        for process in found:
            _signal(process, signal.SIGSTOP)
        stopped |= found
    for process in stopped:
        _signal(process, signal.SIGKILL)


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _children() -> dict[int, list[int]]:
    """Every process that can be seen, by its parent."""
    children: dict[int, list[int]] = {}
    for folder in _PROC.iterdir() if _PROC.is_dir() else ():
        if folder.name.isdigit():
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue
            children.setdefault(parent, []).append(int(folder.name))
    return children


def _below(pids: set[int], children: dict[int, list[int]]) -> set[int]:
    found, pending = set[int](), list(pids)
    while pending:
        one = pending.pop()
        found.add(one)
        pending += children.get(one, [])
    return found

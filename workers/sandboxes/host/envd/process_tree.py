"""A command and all processes that it started, also those that left its process group.

A command with a deadline adopts its orphans. So while it lives, all that it started is below it.
This works on Linux only. Elsewhere only the process group is known.
"""

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_MAX_SEARCHES = 50
_PROC = Path("/proc")
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def adopt_orphans() -> None:
    """Make this process adopt its orphans. Call it before the process becomes the command."""
    if _libc is not None:
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def die_with_parent() -> None:
    """Make this process end with its parent. Call it before the process becomes the command."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def kill_tree(pid: int) -> None:
    _kill(lambda: _with_descendants({pid}, _children()))


def kill_descendants() -> None:
    """Kill all processes below this one."""
    _kill(lambda: _with_descendants({os.getpid()}, _children()) - {os.getpid()})


def with_descendants(pids: set[int]) -> set[int]:
    """Return `pids` with all processes below them."""
    return _with_descendants(pids, _children())


def kill_unrelated(kept: set[int]) -> None:
    """Kill all but this process, the `kept` processes and those below them.

    Only the first process of a namespace may call it.
    """

    def unrelated() -> set[int]:
        children = _children()
        return {pid for siblings in children.values() for pid in siblings} - {os.getpid()} - _with_descendants(kept, children)

    _kill(unrelated)


def kill_all_but(kept: int) -> None:
    """Kill all processes but this one and `kept`.

    All are stopped first, so none can fork and escape.
    Only the first process of a namespace may call it.
    """
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGSTOP)
    for pid in {pid for siblings in _children().values() for pid in siblings} - {os.getpid(), kept}:
        _signal(pid, signal.SIGKILL)
    _signal(kept, signal.SIGCONT)


def _kill(find: Callable[[], set[int]]) -> None:
    """Stop all processes first, so that none can fork and escape. Then kill them."""
    stopped: set[int] = set()
    for _ in range(_MAX_SEARCHES):
        new_pids = find() - stopped
        if not new_pids:
            break
        for pid in new_pids:
            _signal(pid, signal.SIGSTOP)
        stopped |= new_pids
    for pid in stopped:
        _signal(pid, signal.SIGKILL)


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _children() -> dict[int, list[int]]:
    """Return the ids of all visible processes, grouped by their parent's id."""
    children: dict[int, list[int]] = {}
    for folder in _PROC.iterdir() if _PROC.is_dir() else ():
        if folder.name.isdigit():
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue
            children.setdefault(parent, []).append(int(folder.name))
    return children


def _with_descendants(pids: set[int], children: dict[int, list[int]]) -> set[int]:
    tree, pending = set[int](), list(pids)
    while pending:
        pid = pending.pop()
        tree.add(pid)
        pending += children.get(pid, [])
    return tree

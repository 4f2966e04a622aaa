"""End the code of an execution, or make sure that it never begins."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from ..host.envd.process_tree import kill_tree
from .folder import MARK, Folder

_TICK_S = 0.02
_PATIENCE_S = 3.0
_MAX_SEARCHES = 50
_STOPPED = {"exit_code": None, "limit": None, "stopped": True, "started_at": None}


def stop(folder: Folder) -> None:
    """Return when neither the code nor its supervisor runs.

    The supervisor ends all processes of the code. If it does not answer, it is killed with them.
    """
    folder.remove_job()
    if not folder.claim():
        _end_supervisor(folder)
    _kill_marked(f"{MARK}={folder.name}".encode())
    if folder.end() is None:
        folder.write_end({**_STOPPED, "ended_at": time.time()})


def _end_supervisor(folder: Folder) -> None:
    end = time.monotonic() + _PATIENCE_S
    asked = False
    while (pid := folder.holder()) is not None:
        if time.monotonic() > end:
            kill_tree(pid)
        elif not asked:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            asked = True
        time.sleep(_TICK_S)


def _kill_marked(mark: bytes) -> None:
    """Kill what is left of the code, for example when it removed its folder or its supervisor."""
    for _ in range(_MAX_SEARCHES):
        found = False
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if mark in (process / "environ").read_bytes().split(b"\0"):
                    os.kill(int(process.name), signal.SIGKILL)
                    found = True
        if not found:
            return
        time.sleep(_TICK_S)

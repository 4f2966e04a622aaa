"""What every process of a sandbox inherits, and what no process of it may do to envd."""

import ctypes
import os
import resource
import sys

from .wire import SandboxSettings

_PR_SET_DUMPABLE = 4
_OPEN_FILES = 4096
_RUNTIME_BYTES = 512 << 20


def apply_limits(settings: SandboxSettings) -> None:
    """Set this process's limits; every command inherits them.

    The limits on processes and on memory per process are set only where the sandbox is its own user: anywhere else the
    kernel would count the machine's other processes in. RLIMIT_DATA counts private writable memory, not address space,
    so torch's and V8's large reservations are free; it stops one process that grows faster than the watch looks.
    """
    os.umask(0o022)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, _OPEN_FILES)
    _limit(resource.RLIMIT_FSIZE, settings.disk_bytes)
    if settings.per_sandbox_limits:
        _limit(resource.RLIMIT_NPROC, settings.processes)
    if settings.watch_memory and sys.platform == "linux":
        _limit(resource.RLIMIT_DATA, settings.memory_bytes + _RUNTIME_BYTES)
    if sys.platform == "linux":
        # Same user as the commands: without this any of them could trace envd and take its descriptors.
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def _limit(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(kind, (value, value))

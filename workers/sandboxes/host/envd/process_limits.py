"""The limits that each process of a sandbox inherits, and the protection of envd from them."""

import ctypes
import os
import resource
import sys

from .wire import SandboxSettings

_PR_SET_DUMPABLE = 4
_OPEN_FILES = 4096
_RUNTIME_BYTES = 512 << 20


def apply_limits(settings: SandboxSettings) -> None:
    """Set this process's limits. Every command inherits them.

    The limit on processes is set only where the sandbox is a user of its own. Elsewhere the kernel
    would count the machine's other processes too.

    RLIMIT_DATA counts private writable memory, not address space. So the large reservations of
    torch and V8 are free. It stops a process that grows faster than envd checks.
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
        # Commands run as the same user. Without this they could trace envd or take its descriptors.
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def _limit(resource_id: int, value: int) -> None:
    _, hard = resource.getrlimit(resource_id)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(resource_id, (value, value))

"""This process and its machine: hardening, threads, and the numbers for `/health`."""

import ctypes
import gc
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PR_SET_DUMPABLE = 4
_M_ARENA_MAX = -8
_GIB = 2**30
# The local host enforces this limit also where there are no cgroups.
_MEMORY_VARIABLE = "SANDBOX_MEMORY_BYTES"
_STATM = Path("/proc/self/statm")
_CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))

_inherited_bytes = 0


def harden() -> None:
    """Hide this process's memory from other processes of the same user (Linux).

    The memory holds the agent's key and tokens.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def limit_memory_arenas() -> None:
    """Use two malloc arenas instead of eight per core (glibc).

    Otherwise each short-lived thread keeps freed tensors in an arena of its own.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_M_ARENA_MAX, 2)


def limit_threads(threads: int) -> None:
    """Limit the thread pools of numeric libraries. Call it before torch is imported."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


def draw_seeds() -> None:
    """Give each library's global random generator a seed of its own from the kernel."""
    import random

    import numpy as np
    import torch

    random.seed()
    np.random.seed(secrets.randbits(32))
    torch.manual_seed(secrets.randbits(63))


@contextmanager
def importing() -> Iterator[None]:
    """Disable the garbage collector while modules are imported, then freeze their objects.

    torch and transformers create hundreds of thousands of objects that stay. The collector would
    scan them again and again.
    """
    before = len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > before:
            gc.freeze()
        gc.enable()


def cpu_cores() -> int:
    """Return the number of cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_gb() -> float | None:
    """Return the GiB that this sandbox may use.

    It is the smallest of the sandbox's limits and the machine's memory.
    """
    limit = memory_bytes()
    return round(limit / _GIB, 2) if limit is not None else None


def memory_bytes() -> int | None:
    """Return the bytes that this sandbox may use; None if they cannot be read."""
    limits = [_cgroup_limit(path) for path in _CGROUP_LIMITS]
    told = os.environ.get(_MEMORY_VARIABLE, "")
    limits.append(int(told) if told.isdecimal() else None)
    try:
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (ValueError, OSError):
        limits.append(None)
    return min((limit for limit in limits if limit is not None), default=None)


def leave_out_inherited_memory() -> None:
    """Do not count the pages that this process has now: they belong to the process it was forked
    from (Linux).
    """
    global _inherited_bytes
    with suppress(OSError, ValueError):
        _, resident, of_files = map(int, _STATM.read_text().split()[:3])
        _inherited_bytes = (resident - of_files) * os.sysconf("SC_PAGE_SIZE")


def memory_left() -> int | None:
    """Return the bytes that this process may still allocate (Linux).

    The sandbox's limit and the process's own limit both count. None if neither can be read.
    """
    return min((limit - used for used, limit in _memory()), default=None)


def memory_share() -> float:
    """Return the share of its memory that this process uses, 0..1 or more (Linux).

    0 if it cannot be read.
    """
    return max((used / limit for used, limit in _memory()), default=0.0)


def _memory() -> list[tuple[int, int]]:
    """Return pairs of (used, limit) in bytes.

    The sandbox limits resident memory without pages of files, which the kernel can drop.
    RLIMIT_DATA limits private writable memory.
    """
    try:
        sizes = [int(pages) * os.sysconf("SC_PAGE_SIZE") for pages in _STATM.read_text().split()]
    except (OSError, ValueError):
        return []
    import resource

    sandbox_limit, data_limit = memory_bytes(), resource.getrlimit(resource.RLIMIT_DATA)[0]
    pairs = [(max(0, sizes[1] - sizes[2] - _inherited_bytes), sandbox_limit)] if sandbox_limit is not None else []
    return [*pairs, (sizes[5], data_limit)] if data_limit != resource.RLIM_INFINITY else pairs


def free_memory() -> None:
    """Return the allocator's free memory to the system (glibc)."""
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def _cgroup_limit(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # The file is missing, or it says "max".
        return None


def rss_mb() -> float:
    """Return the resident memory in MiB, with shared pages."""
    try:
        pages = int(_STATM.read_text().split()[1])
        return round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)
    except (OSError, ValueError, IndexError):
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)

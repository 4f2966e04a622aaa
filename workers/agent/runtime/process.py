"""This process and its machine: hardening, threads, and the figures that /health tells."""

import ctypes
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PR_SET_DUMPABLE = 4
_M_ARENA_MAX = -8
_GIB = 2**30
_CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def harden() -> None:
    """Keep this process's memory, which holds its key and passes, from other processes of the same user (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def limit_memory_arenas() -> None:
    """Two malloc arenas instead of eight per core: threads that come and go otherwise each keep freed tensors (glibc)."""
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_M_ARENA_MAX, 2)


def limit_threads(threads: int) -> None:
    """Bound the pools that numeric libraries open when they are imported; call before torch is."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


@contextmanager
def importing() -> Iterator[None]:
    """Look for no garbage within, nor later in what modules were made of: hundreds of thousands of objects that stay, which the
    collector would go through again and again while torch and transformers load."""
    before = len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > before:
            gc.freeze()
        gc.enable()


def cpu_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_gb() -> float | None:
    """GiB that this sandbox may use: the smaller of its cgroup limit and the machine's memory."""
    limit = _memory_bytes()
    return round(limit / _GIB, 2) if limit is not None else None


def _memory_bytes() -> int | None:
    limits = [_cgroup_limit(path) for path in _CGROUP_LIMITS]
    try:
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (ValueError, OSError):
        limits.append(None)
    return min((limit for limit in limits if limit is not None), default=None)


def memory_left() -> int | None:
    """Bytes that this process may still take, by the sandbox's limit or by its own; None where neither can be read (Linux)."""
    return min((limit - used for used, limit in _memory()), default=None)


def memory_share() -> float:
    """The part of its memory that this process has in use, 0..1 and beyond; 0 where it cannot be read (Linux)."""
    return max((used / limit for used, limit in _memory()), default=0.0)


def _memory() -> list[tuple[int, int]]:
    """(used, limit) in bytes: resident memory by the sandbox's limit, private writable memory by RLIMIT_DATA."""
    try:
        sizes = [int(pages) * os.sysconf("SC_PAGE_SIZE") for pages in Path("/proc/self/statm").read_text().split()]
    except (OSError, ValueError):
        return []
    import resource

    whole, own = _memory_bytes(), resource.getrlimit(resource.RLIMIT_DATA)[0]
    pairs = [(sizes[1], whole)] if whole is not None else []
    return [*pairs, (sizes[5], own)] if own != resource.RLIM_INFINITY else pairs


def free_memory() -> None:
    """Give what the allocator holds in reserve back to the system (glibc)."""
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def _cgroup_limit(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # absent, or the word "max"
        return None


def rss_mb() -> float:
    """Resident memory in MiB, shared pages included."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)
    except (OSError, ValueError, IndexError):
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)

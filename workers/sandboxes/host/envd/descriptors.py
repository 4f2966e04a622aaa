"""Close what a forked process has inherited."""

import os
import resource
from collections.abc import Iterable


def close_all_but(kept: Iterable[int]) -> None:
    """Close all descriptors except the standard streams and `kept`."""
    end, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    start = 3
    for descriptor in sorted(kept):
        os.closerange(start, descriptor)
        start = descriptor + 1
    os.closerange(start, end)


def become_silent() -> None:
    """Read nothing from the standard input, and write nothing to the standard streams."""
    null = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(null, standard)
    os.close(null)

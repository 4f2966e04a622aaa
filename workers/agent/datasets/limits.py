"""What a data file may take of the sandbox's memory and disk. Refusals name the limit."""

from pathlib import Path
from typing import Final

from workers.agent.runtime import disk, process
from workers.agent.runtime.errors import DataError

# Parsed JSON takes about ten times the memory of its text, and the network needs its part.
_PART_OF_MEMORY: Final = 16
_MOST_IN_MEMORY: Final = 2**28
# Lengths, order and batches of an epoch, with the split.
_BYTES_PER_SAMPLE: Final = 48
# What stays free for models, updates and checkpoints.
DISK_RESERVE: Final = 2**28


def most_in_memory() -> int:
    """Return the bytes of the largest value that is parsed at once: 1/16 of the memory.

    At most 256 MiB.
    """
    memory = process.memory_bytes()
    return _MOST_IN_MEMORY if memory is None else min(_MOST_IN_MEMORY, memory // _PART_OF_MEMORY)


def check_disk(folder: Path, needed: int) -> None:
    """Check that `needed` bytes more fit on the sandbox's disk.

    Raises:
        DataError: `not_enough_disk`.
    """
    left = disk.left(folder)
    if needed + DISK_RESERVE > left:
        message = (
            f"the token ids of the dataset take up to {_mib(needed)} MiB on disk, and {_mib(left)} MiB are left, "
            f"of which {_mib(DISK_RESERVE)} MiB stay free (limit: disk)"
        )
        raise DataError("not_enough_disk", message)


def check_memory(samples: int) -> None:
    """Check that the order of so many samples fits into the memory that is left.

    Raises:
        DataError: `not_enough_memory`.
    """
    needed, left = samples * _BYTES_PER_SAMPLE, process.memory_left()
    if left is not None and needed > left:
        message = f"{samples} samples take {_mib(needed)} MiB of memory, and {_mib(left)} MiB are left (limit: memory)"
        raise DataError("not_enough_memory", message)


def _mib(size: int) -> int:
    return max(0, size) // 2**20

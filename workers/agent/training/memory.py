"""Memory pressure in training: an allocation failed, or the sandbox's memory is nearly used up."""

from workers.agent.runtime import process

_NEARLY_ALL = 0.92
# After a halving, memory that an allocator does not give back must not count again.
_MORE = 0.02
# torch on the CPU has no error class of its own for this. The last two are oneDNN's messages.
_WORDS = ("allocate memory", "out of memory", "could not create a memory", "could not create a primitive")


class MemoryPressureError(Exception):
    """The sandbox's memory is nearly used up."""


class MemoryWatch:
    """Checks the memory before each batch, in about 20 microseconds.

    It is used only where the node may act on the result.
    """

    def __init__(self) -> None:
        self._limit = _NEARLY_ALL

    def check(self) -> None:
        """Raises: MemoryPressureError from 92 % of the memory on.

        The kernel ends a process that takes more than all.
        """
        share = process.memory_share()
        if share >= self._limit:
            raise MemoryPressureError(f"{share:.0%} of the sandbox's memory was in use")

    def relieve(self) -> None:
        """Free memory. Accept what is still in use as the new normal."""
        process.free_memory()
        self._limit = max(_NEARLY_ALL, process.memory_share() + _MORE)


def reason(error: Exception) -> str | None:
    """Return a message for an error that comes from memory; None for any other error."""
    if isinstance(error, MemoryPressureError):
        return str(error)
    text = str(error).lower() if isinstance(error, RuntimeError) else ""
    if isinstance(error, MemoryError) or any(words in text for words in _WORDS):
        return "a batch did not fit into the sandbox's memory"
    return None

"""Memory pressure while a node trains: an allocation that failed, or a sandbox whose memory is nearly used up."""

from workers.agent.runtime import process

_NEARLY_ALL = 0.92
# After a halving only more than what is held now counts: an allocator does not give everything back.
_MORE = 0.02
# torch on the CPU has no error class of its own for this; the last two are how oneDNN says it.
_WORDS = ("allocate memory", "out of memory", "could not create a memory", "could not create a primitive")


class MemoryPressureError(Exception):
    """The sandbox's memory is nearly used up."""


class Watch:
    """Looked at before each batch, about 20 microseconds a look; only where the node may act on what it sees."""

    def __init__(self) -> None:
        self._bound = _NEARLY_ALL

    def look(self) -> None:
        """MemoryPressureError from 92 % of the memory on: the kernel ends a process that takes more than all."""
        share = process.memory_share()
        if share >= self._bound:
            raise MemoryPressureError(f"{share:.0%} of the sandbox's memory was in use")

    def relieve(self) -> None:
        """Give back what can be given back, and take what is left for granted."""
        process.free_memory()
        self._bound = max(_NEARLY_ALL, process.memory_share() + _MORE)


def reason(error: Exception) -> str | None:
    """Why an error is one of memory; None for any other."""
    if isinstance(error, MemoryPressureError):
        return str(error)
    text = str(error).lower() if isinstance(error, RuntimeError) else ""
    if isinstance(error, MemoryError) or any(words in text for words in _WORDS):
        return "a batch did not fit into the sandbox's memory"
    return None

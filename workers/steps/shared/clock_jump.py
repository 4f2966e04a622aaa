"""Notice that the machine slept, or that its clock was set forward."""

import time
from collections.abc import Callable

_SMALLEST_JUMP_S = 30.0


class ClockJumpDetector:
    """Compares the wall clock with a clock that stands still while the machine sleeps."""

    def __init__(self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic) -> None:
        self._wall = wall
        self._steady = steady
        self._offset = wall() - steady()

    def has_jumped(self) -> bool:
        """Return whether the wall clock jumped forward since the last call."""
        previous, self._offset = self._offset, self._wall() - self._steady()
        return self._offset - previous > _SMALLEST_JUMP_S

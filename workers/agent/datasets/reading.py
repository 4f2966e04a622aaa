"""How far the reading of a dataset is. Another thread may look at it, and may stop it."""

import threading
import time
from dataclasses import dataclass, field

from workers.agent.runtime.errors import StoppedError


@dataclass(slots=True)
class Reading:
    """Bytes are those of the files as they are stored, compressed ones too."""

    bytes_total: int = 0
    bytes_read: int = 0
    rows: int = 0
    changed_at: float = field(default_factory=time.monotonic)
    stop: threading.Event = field(default_factory=threading.Event)

    def reach(self, position: int) -> None:
        """Record that all bytes before `position` are read.

        Raises: StoppedError once `stop` is set.
        """
        if self.stop.is_set():
            raise StoppedError
        self.bytes_read, self.changed_at = position, time.monotonic()

"""How far the reading of a dataset is. Another thread may look at it, and may stop it."""

import threading
from dataclasses import dataclass, field

from workers.agent.runtime.errors import StoppedError


@dataclass(slots=True)
class Reading:
    """Bytes are those of the files as they are stored, compressed ones too."""

    bytes_total: int = 0
    bytes_read: int = 0
    rows: int = 0
    stop: threading.Event = field(default_factory=threading.Event)

    def reach(self, position: int) -> None:
        """Record that all bytes before `position` are read.

        Raises: StoppedError once `stop` is set.
        """
        if self.stop.is_set():
            raise StoppedError
        self.bytes_read = position

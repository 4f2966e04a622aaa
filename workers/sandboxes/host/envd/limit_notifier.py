"""Report to the host which limit the sandbox reached.

The host counts these reports, because envd may not survive the next one.
"""

import contextlib
import socket
import time

from .wire import FRAME, LIMIT_NAMES, NOTICE, LimitName

_PAUSE_S = 1.0


class LimitNotifier:
    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._last_sent: dict[str, float] = {}

    def notify(self, limit: LimitName) -> None:
        """Report a limit at most once a second. A process may reach it many times."""
        now = time.monotonic()
        if now - self._last_sent.get(limit, -_PAUSE_S) < _PAUSE_S:
            return
        self._last_sent[limit] = now
        with contextlib.suppress(OSError):
            self._control.send(FRAME.pack(NOTICE, LIMIT_NAMES.index(limit)))

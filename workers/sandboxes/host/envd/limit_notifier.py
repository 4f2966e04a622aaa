"""Tells the host which limit the sandbox ran into. The host keeps count: envd may not outlive the next one."""

import contextlib
import socket
import time

from .wire import FRAME, LIMIT_NAMES, NOTICE

_PAUSE_S = 1.0


class LimitNotifier:
    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._told: dict[str, float] = {}

    def notify(self, limit: str) -> None:
        """At most once a second for each limit: a process that runs into one does so over and over."""
        now = time.monotonic()
        if now - self._told.get(limit, -_PAUSE_S) < _PAUSE_S:
            return
        self._told[limit] = now
        with contextlib.suppress(OSError):
            self._control.send(FRAME.pack(NOTICE, LIMIT_NAMES.index(limit)))

"""Tell the API that this process takes steps. `/readyz` reads it."""

import logging
import threading
import time

from sqlalchemy.exc import SQLAlchemyError

from api.store import heartbeats
from workers.context import Context

log = logging.getLogger(__name__)
_EVERY_S = 3.0


class Heartbeat:
    """Records a step at most every three seconds of a process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = -_EVERY_S

    def note(self, context: Context) -> None:
        """Record a step. A database that is away is no failure of the step."""
        with self._lock:
            if time.monotonic() - self._last < _EVERY_S:
                return
            self._last = time.monotonic()
        try:
            with context.database.unit_of_work() as uow:
                heartbeats.note(uow.session)
        except SQLAlchemyError as error:
            log.info("the heartbeat was not recorded: %s", type(error).__name__)


heartbeat = Heartbeat()

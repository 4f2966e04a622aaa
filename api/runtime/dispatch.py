"""The bell: tells a Celery worker by name which row to look at. It may fail; the sweep finds what it did not tell."""

import logging
import threading
import time

from celery import Celery

from api.domain.steps import QUEUE, Step, task_name
from api.settings import Settings

log = logging.getLogger(__name__)
_TIMEOUT_S = 0.5
_SILENT_S = 2.0


class CeleryDispatcher:
    """Rings within half a second or gives up, so that a dead Redis never holds a request."""

    def __init__(self, settings: Settings) -> None:
        self._app = Celery("flow_nexus_bell", broker=settings.redis_url, set_as_current=False)
        self._app.conf.update(
            task_default_queue=QUEUE,
            task_ignore_result=True,
            broker_connection_retry=False,
            broker_connection_timeout=_TIMEOUT_S,
            broker_transport_options={
                "socket_connect_timeout": _TIMEOUT_S,
                "socket_timeout": _TIMEOUT_S,
                "max_retries": 0,
                "retry_on_timeout": False,
            },
        )
        self._lock = threading.Lock()
        self._silent_until = 0.0

    def __call__(self, step: Step, row_id: str) -> None:
        # One at a time: a crowd that meets a silent broker waits for the first to find out, not each for itself.
        if not self._lock.acquire(timeout=_TIMEOUT_S):
            return
        try:
            if time.monotonic() >= self._silent_until:
                self._app.send_task(task_name(step), args=[row_id], retry=False, ignore_result=True)
        except Exception as error:  # noqa: BLE001 - whatever the broker's trouble is, the row is committed and will be found
            self._silent_until = time.monotonic() + _SILENT_S
            log.warning("the broker did not take %s: %s; the sweep will find it", step, type(error).__name__)
        finally:
            self._lock.release()

"""Send a step to a Celery worker by the step's name.

A message may be lost: the sweep finds its row.
"""

import logging
import threading
import time

from celery import Celery

from api.domain.steps import QUEUE, Step, task_name
from api.runtime import log_context, tracing
from api.settings import Settings

log = logging.getLogger(__name__)
REQUEST_HEADER = "flow_nexus_request_id"
"""The header of a message with the id of the request that led to the step."""
_TIMEOUT_S = 0.5
_SILENT_S = 2.0


class CeleryDispatcher:
    """Send a step within half a second or give up. So a dead Redis never holds a request."""

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
        # One thread at a time. While the broker is silent, only the first thread tries it.
        if not self._lock.acquire(timeout=_TIMEOUT_S):
            return
        try:
            if time.monotonic() >= self._silent_until:
                headers = {
                    REQUEST_HEADER: log_context.current().get(log_context.REQUEST_ID),
                    tracing.HEADER: tracing.origin(),
                }
                self._app.send_task(task_name(step), args=[row_id], headers=headers, retry=False, ignore_result=True)
        except Exception as error:  # noqa: BLE001 - the row is committed, so the sweep will find it
            self._silent_until = time.monotonic() + _SILENT_S
            log.warning("%s: the broker did not take %s: %s; the sweep will find it", row_id, step, type(error).__name__)
        finally:
            self._lock.release()

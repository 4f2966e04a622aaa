"""The base of every Celery task."""

import logging
from typing import Any

from celery import Task
from opentelemetry.trace import SpanKind

from api.domain.steps import QUEUE
from api.runtime import log_context, log_setup, tracing
from workers import metrics

log = logging.getLogger(__name__)


class QuietTask(Task):  # type: ignore[type-arg]
    """A task whose failure is logged without the error's message, which may quote data.

    Celery itself would log the message. The row or the schedule repeats the task.
    """

    def __call__(self, *args: Any, **options: Any) -> None:
        step = self.name.rpartition(f"{QUEUE}.")[2]
        try:
            with metrics.STEP_SECONDS.labels(step).time():
                self._run_traced(*args, **options)
        except Exception as error:  # noqa: BLE001 - the sweep and the schedule repeat the task
            metrics.STEP_ERRORS.labels(step).inc()
            log.error("%s failed: %s", self.name, log_setup.describe(error))  # noqa: TRY400 - no message

    def _run_traced(self, *args: Any, **options: Any) -> None:
        """Run the step of a row as a span. Periodic tasks have none: they belong to no request."""
        if not args:
            self.run(*args, **options)
            return
        parent = self.request.get(tracing.HEADER)
        with tracing.span(self.name, SpanKind.CONSUMER, parent, log_context.current()), tracing.originating(parent):
            self.run(*args, **options)

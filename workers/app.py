"""The Celery app. It is transport only: rows describe the work, and a message names a row."""

import os
import sys
from typing import Any

from celery import Celery
from celery.signals import (
    celeryd_init,
    setup_logging,
    task_postrun,
    task_prerun,
    worker_process_shutdown,
    worker_ready,
    worker_shutdown,
    worker_shutting_down,
)

from api.domain.steps import QUEUE, PeriodicStep, task_name
from api.runtime import extras, log_context, log_setup, tracing
from api.runtime.dispatch import REQUEST_HEADER
from api.settings import Settings
from workers import metrics_server
from workers.context import close_context, draining
from workers.quiet_task import QuietTask

settings = Settings()

app = Celery("flow_nexus", task_cls=QuietTask, broker=settings.redis_url, include=["workers.tasks"])
app.conf.update(
    task_ignore_result=True,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_transport_options={
        "visibility_timeout": 300,
        "socket_connect_timeout": 2,
        "socket_timeout": 10,
        "socket_keepalive": True,
        "health_check_interval": 10,
    },
    task_default_queue=QUEUE,
    timezone="UTC",
    beat_schedule={
        "sweep": {
            "task": task_name(PeriodicStep.SWEEP),
            "schedule": settings.sweep_interval_s,
            "options": {"expires": settings.sweep_interval_s},
        },
        "limits": {
            "task": task_name(PeriodicStep.LIMITS),
            "schedule": settings.limits_interval_s,
            "options": {"expires": settings.limits_interval_s},
        },
        "retention": {
            "task": task_name(PeriodicStep.RETENTION),
            "schedule": settings.retention_interval_s,
            "options": {"expires": settings.retention_interval_s},
        },
        "reconcile": {
            "task": task_name(PeriodicStep.RECONCILE),
            "schedule": settings.reconcile_interval_s,
            "options": {"expires": settings.reconcile_interval_s},
        },
    },
)


@worker_ready.connect
def _serve_metrics(**_: object) -> None:
    metrics_server.start(settings)


@celeryd_init.connect
def _start(**_: object) -> None:
    """Begin to trace. Refuse to start without what a setting needs."""
    if reason := extras.missing(os.environ):
        sys.exit(reason)
    tracing.set_up("flow-nexus-worker", settings.otlp_endpoint)


@worker_shutting_down.connect
def _start_draining(**_: object) -> None:
    draining.set()


@worker_shutdown.connect
@worker_process_shutdown.connect
def _close_connections(**_: object) -> None:
    close_context()
    tracing.shut_down()


@celeryd_init.connect
@setup_logging.connect
def _set_up_logging(**_: object) -> None:
    """Log as the API does. With a receiver of this signal, Celery changes no logger itself."""
    log_setup.set_up_logging(settings.log_level, settings.log_format)


@task_prerun.connect
def _name_ids(task: Any, args: Any, **_: object) -> None:
    """Begin the ids of a step's log: its row, and the request that led to it."""
    request_id = task.request.get(REQUEST_HEADER)
    request = {log_context.REQUEST_ID: request_id} if isinstance(request_id, str) else {}
    log_context.replace({"step": task.name, **log_context.ids_among(args or ()), **request})


@task_postrun.connect
def _forget_ids(**_: object) -> None:
    log_context.replace({})

"""The Celery app. It is transport only: rows describe the work, and a message names a row."""

import logging

from celery import Celery
from celery.signals import (
    after_setup_logger,
    after_setup_task_logger,
    worker_process_shutdown,
    worker_shutdown,
    worker_shutting_down,
)

from api.domain.steps import QUEUE, PeriodicStep, task_name
from api.runtime import log_setup
from api.settings import Settings
from workers.context import close_context, draining
from workers.quiet_task import QuietTask

settings = Settings()

app = Celery("flow_nexus", task_cls=QuietTask, broker=settings.redis_url, include=["workers.tasks"])
app.conf.update(
    task_ignore_result=True,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    worker_hijack_root_logger=False,
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


@worker_shutting_down.connect
def _start_draining(**_: object) -> None:
    draining.set()


@worker_shutdown.connect
@worker_process_shutdown.connect
def _close_connections(**_: object) -> None:
    close_context()


@after_setup_logger.connect
@after_setup_task_logger.connect
def _hide_messages(logger: logging.Logger, **_: object) -> None:
    log_setup.hide_messages(logger)

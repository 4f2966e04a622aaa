"""Old data is deleted: events, idempotency keys, exported models and log files, each after its own
time.
"""

import logging
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import delete, func, select, tuple_

from api.services import models
from api.services.lookup import locked_cluster
from api.store import transitions
from api.store.tables import EventRow, IdempotencyRow, ModelRow, WebhookDeliveryRow
from workers.context import Context

log = logging.getLogger(__name__)
_BATCH = 5000
_LARGEST_LOG = 16 << 20


def apply(context: Context) -> None:
    """Delete what is too old. It may run twice. A time of None means never."""
    settings = context.settings
    if settings.retention_events_days is not None:
        _forget_events(context, timedelta(days=settings.retention_events_days))
    if settings.retention_models_days is not None:
        _expire_models(context, timedelta(days=settings.retention_models_days))
    _remove_archives(context)
    if settings.logs_dir is not None and settings.retention_logs_days is not None:
        _rotate_logs(settings.logs_dir, timedelta(days=settings.retention_logs_days))


def _forget_events(context: Context, age: timedelta) -> None:
    """Delete old events in batches, so that no statement locks the table for long.

    The numbers of events are never used again.
    """
    removed = _BATCH
    while removed >= _BATCH:
        with context.database.unit_of_work() as uow:
            before = func.clock_timestamp() - age
            old = select(EventRow.cluster_id, EventRow.seq).where(EventRow.created_at < before).limit(_BATCH)
            keys = [tuple(row) for row in uow.session.execute(old)]
            removed = len(keys)
            uow.session.execute(delete(EventRow).where(tuple_(EventRow.cluster_id, EventRow.seq).in_(keys)))
            uow.session.execute(delete(WebhookDeliveryRow).where(WebhookDeliveryRow.created_at < before))
            uow.session.execute(delete(IdempotencyRow).where(IdempotencyRow.created_at < before))


def _expire_models(context: Context, age: timedelta) -> None:
    with context.database.unit_of_work() as uow:
        old = uow.session.execute(
            select(ModelRow.id, ModelRow.cluster_id).where(
                ModelRow.status == "completed", ModelRow.finished_at < func.clock_timestamp() - age
            )
        ).all()
    for model_id, cluster_id in old:
        with context.database.unit_of_work() as uow:
            locked_cluster(uow.session, cluster_id)
            row = uow.session.get_one(ModelRow, model_id, populate_existing=True)
            if row.status == "completed":
                transitions.move(uow.session, row, "expired", name=row.name)


def _remove_archives(context: Context) -> None:
    """Delete the files of expired models. A row that is `completed` always has its file."""
    with context.database.unit_of_work() as uow:
        expired = uow.session.scalars(select(ModelRow).where(ModelRow.status == "expired")).all()
    for row in expired:
        models.archive(context.settings, row).unlink(missing_ok=True)


def _rotate_logs(folder: Path, age: timedelta) -> None:
    """Copy large logs aside and empty them.

    Their writers append, so they continue in the emptied file.
    """
    now = datetime.now(UTC)
    for path in folder.glob("*.log"):
        if path.stat().st_size > _LARGEST_LOG:
            shutil.copyfile(path, path.with_name(f"{path.name}.{now:%Y%m%dT%H%M%S}"))
            with path.open("r+b") as file:
                file.truncate()
    for path in folder.glob("*.log.*"):
        if now - datetime.fromtimestamp(path.stat().st_mtime, UTC) > age:
            log.info("removing the old log %s", path.name)
            path.unlink(missing_ok=True)

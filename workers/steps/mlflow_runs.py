"""Trainings as runs of an MLflow server. A step sends what a row says that the server lacks.

A server that is away costs a warning and delays no training. After a day without an answer, a run
is given up.
"""

import asyncio
import json
import logging
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from sqlalchemy import exists, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from api.domain.status import ACTIVE_TRAINING
from api.services import models as model_service
from api.settings import Settings
from api.store import leases
from api.store.database import UnitOfWork
from api.store.tables import ClusterRow, MlflowRunRow, ModelRow, TrainingRow
from workers import mlflow_client
from workers.context import Context
from workers.mlflow_client import Export, RunEnd, RunUpdate, TrackingError
from workers.steps.shared import round_metrics
from workers.steps.shared.lease import act, under_lease

log = logging.getLogger(__name__)
GIVE_UP_AFTER: Final = timedelta(days=1)
# Trainings that ended before the setting was set get a run if they are younger.
_YOUNG: Final = timedelta(days=1)
_FIRST_PAUSE_S = 5.0
_LONGEST_PAUSE_S = 600.0
# Rounds of one step.
MOST_ROUNDS = 100
_ENDS: Final = {"completed": "FINISHED", "stopped": "KILLED", "failed": "FAILED", "refused": "FAILED"}


def wake_due(context: Context, uow: UnitOfWork) -> None:
    """Make the rows due of which the server lacks something. The sweep then enqueues them."""
    if context.settings.mlflow_tracking_uri is None:
        return
    now = func.clock_timestamp()
    new = select(TrainingRow.id, now).where(
        or_(TrainingRow.status.in_(ACTIVE_TRAINING), TrainingRow.created_at > now - _YOUNG),
        ~exists().where(MlflowRunRow.id == TrainingRow.id),
    )
    uow.session.execute(insert(MlflowRunRow).from_select(["id", "due_at"], new).on_conflict_do_nothing())
    not_sent = exists().where(
        ModelRow.training_id == MlflowRunRow.id,
        ModelRow.status == "completed",
        ~MlflowRunRow.exports.contains(func.to_jsonb(ModelRow.id)),
    )
    uow.session.execute(
        update(MlflowRunRow)
        .where(
            MlflowRunRow.due_at.is_(None),
            MlflowRunRow.given_up_at.is_(None),
            TrainingRow.id == MlflowRunRow.id,
            or_(
                MlflowRunRow.status.is_distinct_from(TrainingRow.status),
                MlflowRunRow.rounds < TrainingRow.completed_rounds,
                not_sent,
            ),
        )
        .values(due_at=now)
        .execution_options(synchronize_session=False)
    )


def advance(context: Context, training_id: str) -> None:
    """Send what the server lacks of a training."""
    under_lease(context, MlflowRunRow, training_id, partial(_advance, context, training_id))


def _advance(context: Context, training_id: str, token: str) -> None:
    uri = context.settings.mlflow_tracking_uri
    with context.database.unit_of_work() as uow:
        row = leases.held(uow.session, MlflowRunRow, training_id, token)
        if uri is None:
            leases.release(row, None)
            return
        training = uow.session.get_one(TrainingRow, training_id)
        message = _update(uow.session, context.settings, row, training)
    send = partial(mlflow_client.send, uri.get_secret_value(), context.settings.mlflow_experiment, message)
    try:
        run_id = act(context, MlflowRunRow, training_id, token, lambda: asyncio.to_thread(send))
    except TrackingError as error:
        _note_failure(context, training_id, token, error)
        return
    with context.database.unit_of_work() as uow:
        row = leases.held(uow.session, MlflowRunRow, training_id, token)
        row.run_id, row.status, row.failing_since = run_id, training.status, None
        row.rounds = message.rounds[-1].number if message.rounds else row.rounds
        row.exports = [*row.exports, *(export.model_id for export in message.exports)]
        leases.release(row, 0 if len(message.rounds) == MOST_ROUNDS else None)


def _update(session: Session, settings: Settings, row: MlflowRunRow, training: TrainingRow) -> RunUpdate:
    models = session.scalars(
        select(ModelRow)
        .where(ModelRow.training_id == training.id, ModelRow.status == "completed", ModelRow.id.not_in(row.exports))
        .order_by(ModelRow.created_at)
    ).all()
    rounds = round_metrics.after(session, training.id, row.rounds, MOST_ROUNDS)
    return RunUpdate(
        training_id=training.id,
        run_id=row.run_id,
        started_ms=_milliseconds(training.started_at or training.created_at),
        tags=_tags(training),
        params=_params(session, training) if row.status is None else {},
        rounds=round_metrics.metrics(session, rounds, workers=False),
        exports=[Export(model.id, model.name, model_service.archive(settings, model)) for model in models],
        end=_end(training),
    )


def _tags(training: TrainingRow) -> dict[str, str]:
    tags = {
        mlflow_client.TRAINING_TAG: training.id,
        "flow_nexus.cluster_id": training.cluster_id,
        "flow_nexus.project_id": training.project_id,
        "flow_nexus.search_id": training.search_id,
        "flow_nexus.error": training.error.code if training.error else None,
        "flow_nexus.stop_reason": training.stop_reason.code if training.stop_reason else None,
        "mlflow.source.name": "flow-nexus",
        "mlflow.source.type": "JOB",
    }
    return {name: value for name, value in tags.items() if value is not None}


def _params(session: Session, training: TrainingRow) -> dict[str, str]:
    """Return the options of the training and those of its cluster, as text."""
    cluster = session.get_one(ClusterRow, training.cluster_id)
    options = {
        **training.config.model_dump(mode="json", exclude_none=True),
        "model": training.model,
        "workers": len(training.workers),
        "cluster.topology": cluster.topology,
        "cluster.architecture": cluster.config.architecture,
        "cluster.consensus": cluster.config.consensus,
    }
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in options.items()}


def _end(training: TrainingRow) -> RunEnd | None:
    word = _ENDS.get(training.status)
    return None if word is None else RunEnd(word, _milliseconds(training.finished_at or training.created_at))


def _milliseconds(time: datetime) -> int:
    return int(time.timestamp() * 1000)


def _note_failure(context: Context, training_id: str, token: str, error: TrackingError) -> None:
    """Try again after a pause that grows, or give up."""
    with context.database.unit_of_work() as uow:
        row = leases.held(uow.session, MlflowRunRow, training_id, token)
        now = uow.session.execute(select(func.clock_timestamp())).scalar_one()
        if row.failing_since is None:
            log.warning("%s: it could not be sent to MLflow: %s; it is tried again for a day", training_id, error)
            row.failing_since = now
        if now - row.failing_since >= GIVE_UP_AFTER:
            log.warning("%s: it could not be sent to MLflow for a day: %s; no more is sent of it", training_id, error)
            row.given_up_at = now
            leases.release(row, None)
        else:
            leases.give_back(row, min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** min(row.failures, 10)), failed=True)

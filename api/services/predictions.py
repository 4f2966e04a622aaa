"""Use cases of a prediction: all workers predict with the last global model of a training."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Text, cast, func, select
from sqlalchemy.dialects.postgresql import JSONB, JSONPATH
from sqlalchemy.orm import Session

from api.domain import ids
from api.domain.errors import ConflictError, FieldError, InvalidError
from api.domain.specs import PredictionSpec
from api.domain.steps import Step
from api.domain.training_spec import TrainingSpec
from api.services import lost_nodes
from api.services.clusters import refuse_ended
from api.services.lookup import locked_cluster, owned, owned_locked_cluster
from api.store import transitions
from api.store.database import UnitOfWork
from api.store.tables import ClusterRow, PredictionRow, TrainingRow

_TEXTS: Final = "predictions"


def start(uow: UnitOfWork, project_id: str, cluster_id: str, spec: PredictionSpec) -> PredictionRow:
    session = uow.session
    cluster = owned_locked_cluster(session, project_id, cluster_id)
    refuse_ended(cluster)
    training = _trained(session, project_id, cluster, spec.training_id)
    lost_nodes.refuse(session, cluster.id, "aggregator")
    lost_nodes.refuse(session, cluster.id, "worker")
    if spec.aggregation == "weighted":
        _check_weights(training.config)
    row = PredictionRow(
        id=ids.prediction_id(spec.aggregation),
        project_id=project_id,
        cluster_id=cluster.id,
        training_id=training.id,
        status="pending",
        aggregation=spec.aggregation,
        request=spec.input,
        due_at=func.clock_timestamp(),
    )
    transitions.created(session, row)
    uow.enqueue(Step.PREDICTIONS_ADVANCE, row.id)
    return row


def _check_weights(spec: TrainingSpec) -> None:
    """Check that the workers of a training have accuracies to weigh their predictions by.

    Raises:
        InvalidError: `options_exclude_each_other` or `federated_only`.
    """
    code = "options_exclude_each_other"
    if spec.differential_privacy is not None:
        message = "'weighted' weighs by exact accuracies on the workers' records, which differential privacy does not tell"
    elif not spec.hold_out:
        message = "'weighted' weighs by accuracies on held-out samples, and this training held none out"
    elif not spec.federated:
        code = "federated_only"
        message = "the workers have no data of their own to weigh by: this training was not federated; take another aggregation"
    else:
        return
    raise InvalidError(code, message, errors=(FieldError("/aggregation", message),))


def get(session: Session, project_id: str, prediction_id: str) -> PredictionRow:
    return owned(session, PredictionRow, project_id, prediction_id)


@dataclass(frozen=True, slots=True)
class StoredResults:
    """The results of a prediction. `figures` is all but the texts, None until it is completed.

    `texts` is a JSON array as the database writes it. It can have many megabytes, so it is not
    parsed.
    """

    figures: dict[str, Any] | None
    texts: str


def results(session: Session, row: PredictionRow) -> StoredResults:
    column = PredictionRow.results
    figures, texts = session.execute(
        select(column.op("-", return_type=JSONB)(_TEXTS), func.jsonb_extract_path(column, _TEXTS).cast(Text)).where(
            PredictionRow.id == row.id
        )
    ).one()
    return StoredResults(figures, texts or "[]")


def texts(session: Session, project_id: str, prediction_id: str, limit: int, after: int) -> Sequence[Any]:
    """Return the next `limit` texts with their answers, after the first `after` of them.

    Raises:
        NotFoundError: the project has no such prediction.
        ConflictError: `not_completed`.
    """
    row = get(session, project_id, prediction_id)
    if row.status != "completed":
        raise ConflictError("not_completed", f"Prediction {row.id} is {row.status}: it has no results.")
    path = f"$.{_TEXTS}[{after} to {after + limit - 1}]"
    page: list[Any] = session.execute(
        select(func.jsonb_path_query_array(PredictionRow.results, cast(path, JSONPATH))).where(PredictionRow.id == row.id)
    ).scalar_one()
    return page


def cancel(uow: UnitOfWork, project_id: str, prediction_id: str) -> PredictionRow:
    """Cancel a pending prediction. One that has ended stays as it is.

    The step that works on it keeps its lease. It sees the status when it writes down its result.
    """
    row = owned(uow.session, PredictionRow, project_id, prediction_id)
    locked_cluster(uow.session, row.cluster_id)
    uow.session.refresh(row)
    if row.status == "pending":
        row.finished_at = func.clock_timestamp()
        # Nobody asks for the texts any more.
        row.request = row.request.model_copy(update={"inputs": None})
        transitions.move(uow.session, row, "cancelled")
        uow.enqueue(Step.PREDICTIONS_INTERRUPT, row.id)
    return row


def _trained(session: Session, project_id: str, cluster: ClusterRow, training_id: str | None) -> TrainingRow:
    """Return the named training, or the newest one with a completed round.

    Raises:
        ConflictError: `no_model`.
    """
    if training_id is not None:
        training = owned(session, TrainingRow, project_id, training_id)
        if training.cluster_id == cluster.id and training.completed_rounds:
            return training
        raise ConflictError("no_model", f"Training {training_id} has no global model in this cluster.")
    newest = session.scalar(
        select(TrainingRow)
        .where(TrainingRow.cluster_id == cluster.id, TrainingRow.completed_rounds > 0)
        .order_by(TrainingRow.created_at.desc(), TrainingRow.id.desc())
        .limit(1)
    )
    if newest is None:
        raise ConflictError("no_model", "The cluster has no trained model yet: no training has finished a round.")
    return newest

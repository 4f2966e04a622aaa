"""Use cases of an exported model."""

from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.domain import ids
from api.domain.errors import ConflictError
from api.domain.steps import Step
from api.services import lost_nodes
from api.services.clusters import refuse_ended
from api.services.lookup import locked_cluster, owned
from api.services.pages import PageRequest, ResultPage, fetch_page
from api.settings import Settings
from api.store import transitions
from api.store.database import UnitOfWork
from api.store.tables import ModelRow, TrainingRow


def export(uow: UnitOfWork, project_id: str, training_id: str, name: str) -> ModelRow:
    """Export the newest global model to `/export/<name>` in the aggregator's sandbox, and keep a
    copy.
    """
    session = uow.session
    training = owned(session, TrainingRow, project_id, training_id)
    cluster = locked_cluster(session, training.cluster_id)
    refuse_ended(cluster)
    session.refresh(training)
    if not training.completed_rounds or training.digest is None:
        raise ConflictError("no_model", "The training has no global model yet: no round is finished.")
    lost_nodes.refuse(session, cluster.id, "aggregator")
    taken = session.scalar(
        select(ModelRow.id).where(
            ModelRow.training_id == training.id,
            ModelRow.name == name,
            ModelRow.status.not_in(("failed", "cancelled", "expired")),
        )
    )
    if taken:
        raise ConflictError("name_taken", f"Model {taken} of this training already has the name {name!r}.")
    row = ModelRow(
        id=ids.model_id(),
        project_id=project_id,
        cluster_id=cluster.id,
        training_id=training.id,
        status="pending",
        name=name,
        digest=training.digest,
        due_at=func.clock_timestamp(),
    )
    transitions.created(session, row, name=name)
    uow.enqueue(Step.MODELS_ADVANCE, row.id)
    return row


def cancel(uow: UnitOfWork, project_id: str, model_id: str) -> ModelRow:
    """Cancel a pending export. One that has ended stays as it is.

    The step that works on it keeps its lease, and removes its copy when it sees the status.
    """
    row = owned(uow.session, ModelRow, project_id, model_id)
    locked_cluster(uow.session, row.cluster_id)
    uow.session.refresh(row)
    if row.status == "pending":
        row.finished_at = func.clock_timestamp()
        transitions.move(uow.session, row, "cancelled", name=row.name)
        uow.session.flush()
        uow.session.refresh(row)
    return row


def get(session: Session, project_id: str, model_id: str) -> ModelRow:
    return owned(session, ModelRow, project_id, model_id)


def page(session: Session, project_id: str, page_request: PageRequest) -> ResultPage[ModelRow]:
    return fetch_page(session, select(ModelRow).where(ModelRow.project_id == project_id), ModelRow, page_request)


def archive(settings: Settings, row: ModelRow) -> Path:
    """Return the path of the kept copy, a tar of the exported folder."""
    return settings.models_dir / f"{row.id}.tar"


def downloadable(settings: Settings, row: ModelRow) -> Path:
    if row.status != "completed":
        raise ConflictError("model_not_ready", f"The model is {row.status}.")
    return archive(settings, row)

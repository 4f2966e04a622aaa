"""Find rows by id within a project."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.domain.errors import NotFoundError
from api.store.kinds import StatusRowT, kind_of
from api.store.tables import ClusterRow


def owned(session: Session, table: type[StatusRowT], project_id: str, row_id: str) -> StatusRowT:
    """Return the row of the project.

    Raises:
        NotFoundError: there is no such row, or it belongs to another project.
    """
    row = session.scalar(select(table).where(table.id == row_id, table.project_id == project_id))
    if row is None:
        raise NotFoundError(kind_of(table).noun, row_id)
    return row


def locked_cluster(session: Session, cluster_id: str) -> ClusterRow:
    """Lock a cluster before anything in it is written.

    Requests and steps have this one lock order, so there is no deadlock.
    """
    return session.execute(
        select(ClusterRow).where(ClusterRow.id == cluster_id).with_for_update().execution_options(populate_existing=True)
    ).scalar_one()


def owned_locked_cluster(session: Session, project_id: str, cluster_id: str) -> ClusterRow:
    return locked_cluster(session, owned(session, ClusterRow, project_id, cluster_id).id)

"""Use cases of a sandbox, which clients name by its own id or by its node's."""

from datetime import timedelta

from sqlalchemy import func, or_, select, update
from sqlalchemy.orm import Session

from api.domain.errors import ConflictError, NotFoundError
from api.services.pages import Cursor, Page, fetch
from api.store.models import ClusterRow, NodeRow

STATUSES = ("running", "lost", "terminating", "terminated", "failed", "provisioning")
_NOTE_EVERY = timedelta(seconds=10)


def page(session: Session, project_id: str, status: str | None, limit: int, after: Cursor | None) -> Page[NodeRow]:
    """Nodes that have, or had, a sandbox."""
    query = select(NodeRow).where(NodeRow.project_id == project_id, NodeRow.sandbox_id.is_not(None))
    if status is not None:
        query = query.where(NodeRow.status == status)
    return fetch(session, query, NodeRow, limit, after)


def resolve(session: Session, project_id: str, sandbox_or_node_id: str) -> NodeRow:
    row = session.scalar(
        select(NodeRow).where(
            NodeRow.project_id == project_id,
            NodeRow.sandbox_id.is_not(None),
            or_(NodeRow.id == sandbox_or_node_id, NodeRow.sandbox_id == sandbox_or_node_id),
        )
    )
    if row is None:
        raise NotFoundError("sandbox", sandbox_or_node_id)
    return row


def called(session: Session, node: NodeRow) -> None:
    """Somebody uses the sandbox, so its cluster is not idle. Noted at most once in a while: clusters' rows are busy."""
    session.execute(
        update(ClusterRow)
        .where(
            ClusterRow.id == node.cluster_id,
            or_(ClusterRow.last_call_at.is_(None), ClusterRow.last_call_at < func.clock_timestamp() - _NOTE_EVERY),
        )
        .values(last_call_at=func.clock_timestamp())
    )


def running(node: NodeRow) -> str:
    """The id of a sandbox that work can be done in."""
    if node.status != "running" or node.sandbox_id is None:
        raise ConflictError("sandbox_not_running", f"The sandbox of {node.id} is not running: the node is {node.status}.")
    return node.sandbox_id

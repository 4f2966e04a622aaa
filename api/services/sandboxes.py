"""Use cases of a sandbox, which clients name by its own id or by its node's."""

from datetime import timedelta

from sqlalchemy import func, or_, select, update
from sqlalchemy.orm import Session

from api.domain.access import Act, check_access
from api.domain.errors import ConflictError, NotFoundError
from api.services import quotas
from api.services.pages import Cursor, RowPage, fetch
from api.services.principals import Principal
from api.settings import Settings
from api.store.tables import ClusterRow, NodeRow

_NOTE_EVERY = timedelta(seconds=10)


def page(session: Session, project_id: str, status: str | None, limit: int, after: Cursor | None) -> RowPage[NodeRow]:
    """Nodes that have, or had, a sandbox."""
    query = select(NodeRow).where(NodeRow.project_id == project_id, NodeRow.sandbox_id.is_not(None))
    if status is not None:
        query = query.where(NodeRow.status == status)
    return fetch(session, query, NodeRow, limit, after)


def resolve(session: Session, caller: Principal, sandbox_or_node_id: str) -> NodeRow:
    """The node; for a data owner there is none but their own."""
    query = select(NodeRow).where(
        NodeRow.project_id == caller.project_id,
        NodeRow.sandbox_id.is_not(None),
        or_(NodeRow.id == sandbox_or_node_id, NodeRow.sandbox_id == sandbox_or_node_id),
    )
    if caller.node_id is not None:
        query = query.where(NodeRow.id == caller.node_id)
    row = session.scalar(query)
    if row is None:
        raise NotFoundError("sandbox", sandbox_or_node_id)
    return row


def enter(session: Session, caller: Principal, sandbox_or_node_id: str, act: Act, path: str | None = None) -> NodeRow:
    """The node, for somebody who may do this in its running sandbox. The audit entry says where, and by which right."""
    node = resolve(session, caller, sandbox_or_node_id)
    entry = caller.entry
    if entry is not None:
        entry.resource = node.id
        if path is not None:
            entry.detail["path"] = path
    exported = check_access(
        act, path, role=node.role, sealed=node.data_owner, owner=caller.node_id == node.id, scopes=caller.scopes
    )
    if exported and entry is not None:
        entry.detail["data_export"] = True
    running(node)
    called(session, node)
    if act == "upload" and caller.node_id is not None and node.owner_data_at is None:
        node.owner_data_at = func.clock_timestamp()
    return node


def reserve(session: Session, settings: Settings, project_id: str, node_id: str, size: int) -> None:
    """Count bytes that are about to arrive. QuotaExceededError when the project may not upload so much."""
    quotas.claim(session, settings, project_id, upload_bytes=size)
    count(session, node_id, size)


def count(session: Session, node_id: str, size: int) -> None:
    """Correct a node's count of uploaded bytes, down where `size` is negative."""
    session.execute(
        update(NodeRow)
        .where(NodeRow.id == node_id)
        .values(uploaded_bytes=func.greatest(0, NodeRow.uploaded_bytes + size))
        .execution_options(synchronize_session=False)
    )


def called(session: Session, node: NodeRow) -> None:
    """Somebody uses the sandbox, so its cluster is not idle. Noted at most once in a while: clusters' rows are busy."""
    session.execute(
        update(ClusterRow)
        .where(
            ClusterRow.id == node.cluster_id,
            or_(ClusterRow.last_call_at.is_(None), ClusterRow.last_call_at < func.clock_timestamp() - _NOTE_EVERY),
        )
        .values(last_call_at=func.clock_timestamp())
        .execution_options(synchronize_session=False)
    )


def running(node: NodeRow) -> str:
    """The id of a sandbox that work can be done in."""
    if node.status != "running" or node.sandbox_id is None:
        raise ConflictError("sandbox_not_running", f"The sandbox of {node.id} is not running: the node is {node.status}.")
    return node.sandbox_id

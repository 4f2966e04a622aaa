"""Use cases of a sandbox. Clients name it by its own id or by the id of its node."""

from datetime import timedelta

from sqlalchemy import func, or_, select, update
from sqlalchemy.orm import Session

from api.domain.access import Act, check_access
from api.domain.errors import ConflictError, NotFoundError
from api.services import lost_nodes, quotas
from api.services.pages import PageRequest, ResultPage, fetch_page
from api.services.principals import Principal
from api.settings import Settings
from api.store.tables import ClusterRow, NodeRow

NOTE_CALL_EVERY = timedelta(seconds=2)


def page(session: Session, project_id: str, status: str | None, page_request: PageRequest) -> ResultPage[NodeRow]:
    """Return the nodes that have or had a sandbox."""
    query = select(NodeRow).where(NodeRow.project_id == project_id, NodeRow.sandbox_id.is_not(None))
    if status is not None:
        query = query.where(NodeRow.status == status)
    return fetch_page(session, query, NodeRow, page_request)


def resolve(session: Session, caller: Principal, sandbox_or_node_id: str) -> NodeRow:
    """Return the node. A data owner finds only their own node."""
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


def authorize(session: Session, caller: Principal, sandbox_or_node_id: str, act: Act, path: str | None = None) -> NodeRow:
    """Check that the caller may do `act` in the running sandbox, and return its node.

    The audit record gets the node, the path and the use of `data:export`.

    Raises:
        ForbiddenError: the caller may not do it.
        ConflictError: the sandbox does not run.
    """
    node = resolve(session, caller, sandbox_or_node_id)
    record = caller.audit_record
    if record is not None:
        record.resource = node.id
        if path is not None:
            record.detail["path"] = path
    exported = check_access(
        act, path, role=node.role, sealed=node.data_owner, owner=caller.node_id == node.id, scopes=caller.scopes
    )
    if exported and record is not None:
        record.detail["data_export"] = True
    running_sandbox_id(node)
    note_call(session, node.cluster_id)
    if act == "upload" and caller.node_id is not None and node.owner_data_at is None:
        node.owner_data_at = func.clock_timestamp()
    return node


def reserve(session: Session, settings: Settings, project_id: str, node_id: str, size: int) -> None:
    """Count bytes before they arrive.

    Raises:
        QuotaExceededError: the project may not upload so many bytes.
    """
    quotas.claim(session, settings, project_id, upload_bytes=size)
    count(session, node_id, size)


def count(session: Session, node_id: str, size: int) -> None:
    """Change a node's count of uploaded bytes by `size`, which can be negative."""
    session.execute(
        update(NodeRow)
        .where(NodeRow.id == node_id)
        .values(uploaded_bytes=func.greatest(0, NodeRow.uploaded_bytes + size))
        .execution_options(synchronize_session=False)
    )


def note_call(session: Session, cluster_id: str) -> None:
    """Record that a sandbox of the cluster is in use, so that it does not count as idle.

    This is written at most every two seconds, because many transactions lock the cluster's row.
    """
    session.execute(
        update(ClusterRow)
        .where(
            ClusterRow.id == cluster_id,
            or_(ClusterRow.last_call_at.is_(None), ClusterRow.last_call_at < func.clock_timestamp() - NOTE_CALL_EVERY),
        )
        .values(last_call_at=func.clock_timestamp())
        .execution_options(synchronize_session=False)
    )


def running_sandbox_id(node: NodeRow) -> str:
    """Return the id of the node's running sandbox.

    Raises:
        ConflictError: the sandbox does not run.
    """
    if node.status != "running" or node.sandbox_id is None:
        message = f"The sandbox of {node.id} is not running: the node is {node.status}."
        if node.status in ("lost", "failed") and node.due_at is None:
            message += f" {lost_nodes.of([node.id])}"
        raise ConflictError("sandbox_not_running", message)
    return node.sandbox_id

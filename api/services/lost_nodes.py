"""Nodes without a sandbox, in words for a refusal: which they are, and how they come back."""

from collections.abc import Collection

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.domain.errors import ConflictError
from api.store.tables import NodeRow

_MOST = 10


def advice(session: Session, cluster_id: str, roles: Collection[str] = ("worker", "aggregator")) -> str:
    """Return a sentence that names the cluster's lost and failed nodes of these roles.

    It begins with a space. It is empty if there are none. Nodes that come back by themselves are
    not named.
    """
    ids = session.scalars(
        select(NodeRow.id)
        .where(
            NodeRow.cluster_id == cluster_id,
            NodeRow.role.in_(roles),
            NodeRow.status.in_(("lost", "failed")),
            NodeRow.due_at.is_(None),
        )
        .order_by(NodeRow.created_at, NodeRow.id)
    ).all()
    return f" {of(ids)}" if ids else ""


def refuse(session: Session, cluster_id: str, role: str) -> None:
    """Refuse work for which all nodes of a role are lost, and none comes back by itself.

    Raises:
        ConflictError: `no_workers` or `no_aggregator`.
    """
    plays = NodeRow.role == role
    if role == "aggregator":
        plays = plays | NodeRow.acts_as_aggregator
    states = session.execute(
        select(NodeRow.status, NodeRow.due_at.is_not(None)).where(NodeRow.cluster_id == cluster_id, plays)
    ).all()
    usable = any(status in ("running", "provisioning") or (status == "lost" and due) for status, due in states)
    lost = advice(session, cluster_id)
    if lost and not usable:
        code, noun = ("no_workers", "worker") if role == "worker" else ("no_aggregator", "aggregator")
        raise ConflictError(code, f"The cluster has no running {noun}.{lost}")


def of(node_ids: Collection[str]) -> str:
    """Return a sentence that names lost nodes and the request that brings them back."""
    names = list(node_ids)
    more = len(names) - _MOST
    listed = ", ".join(names[:_MOST]) + (f" and {more} more" if more > 0 else "")
    return (
        f"Lost: {listed}. Redeploy each (POST /v1/nodes/{names[0]}/redeploy; flow-nexus neural node redeploy {names[0]}) "
        "and upload its files again."
    )

"""Quotas of a project: their limits and their use.

The lock of the project's row orders the claims.
"""

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any, Final, cast

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from api.domain.errors import FieldError, InvalidError, NotFoundError, QuotaExceededError
from api.domain.status import ACTIVE_EXECUTION, LIVE_NODE
from api.services import spending
from api.settings import Settings
from api.store.tables import ClusterRow, ExecutionRow, NodeRow, ProjectRow

QUOTAS: Final = ("clusters", "nodes", "running_sandboxes", "upload_bytes", "spend_usd", "executions")
_COSTING: Final = ("provisioning", "running", "lost", "terminating")
Amount = int | float


def limits(settings: Settings, project: ProjectRow) -> dict[str, Amount | None]:
    """Return the project's own limits, and the deployment's defaults for the rest.

    None is no limit.
    """
    limits_by_name: dict[str, Amount | None] = {}
    for name in QUOTAS:
        default = getattr(settings, f"quota_{name}")
        limits_by_name[name] = project.quotas.get(name, float(default) if isinstance(default, Decimal) else default)
    return limits_by_name


def current_use(session: Session, project_id: str, name: str) -> Amount:
    """Return how much of a quota the project uses now."""
    return _CURRENT_USE[name](session, project_id)


def claim(session: Session, settings: Settings, project_id: str, **amounts: Amount) -> None:
    """Lock the project until the transaction ends, and check that it may use these amounts in
    addition.

    Money is spent by the second, so nobody can claim an amount before. Claim `spend_usd=0`: this is
    refused as soon as the limit is reached.

    Raises:
        QuotaExceededError: an amount is above its limit.
    """
    project = session.scalar(
        # A key-share lock: other transactions can insert rows that refer to the project.
        select(ProjectRow)
        .where(ProjectRow.id == project_id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )
    if project is None:
        raise NotFoundError("project", project_id)
    project_limits = limits(settings, project)
    for name, amount in amounts.items():
        limit = project_limits[name]
        if limit is None:
            continue
        used = current_use(session, project_id, name)
        if used + amount > limit or (name == "spend_usd" and used >= limit):
            raise QuotaExceededError(name, limit, used, amount)


def view(session: Session, settings: Settings, project_id: str) -> tuple[ProjectRow, dict[str, tuple[Amount | None, Amount]]]:
    """Return the project, and the limit and the use of each quota."""
    project = session.get_one(ProjectRow, project_id)
    return project, {name: (limit, current_use(session, project_id, name)) for name, limit in limits(settings, project).items()}


def override(session: Session, project: str, changes: Mapping[str, Amount | str | None]) -> ProjectRow:
    """Set limits of a project.

    A value is a number, None (no limit) or "default" (the deployment's limit).
    """
    row = session.scalar(select(ProjectRow).where(ProjectRow.name == project).with_for_update(key_share=True))
    if row is None:
        raise NotFoundError("project", project)
    quotas: dict[str, Any] = dict(row.quotas)
    for name, value in changes.items():
        if name not in QUOTAS:
            message = f"there is no quota {name!r}; there are {', '.join(QUOTAS)}"
            raise InvalidError("unknown_quota", message, errors=(FieldError(f"/{name}", message),))
        if value == "default":
            quotas.pop(name, None)
        else:
            quotas[name] = value
    row.quotas = quotas
    return row


def _clusters(session: Session, project_id: str) -> int:
    return (
        session.scalar(select(func.count()).where(ClusterRow.project_id == project_id, ClusterRow.status != "terminated")) or 0
    )


def _nodes(session: Session, project_id: str) -> int:
    return (
        session.scalar(
            select(func.count()).where(NodeRow.project_id == project_id, NodeRow.status.in_((*LIVE_NODE, "terminating")))
        )
        or 0
    )


def _sandboxes(session: Session, project_id: str) -> int:
    return (
        session.scalar(
            select(func.count()).where(
                NodeRow.project_id == project_id, NodeRow.status.in_(_COSTING), NodeRow.ended_at.is_(None)
            )
        )
        or 0
    )


def _executions(session: Session, project_id: str) -> int:
    return (
        session.scalar(
            select(func.count()).where(ExecutionRow.project_id == project_id, ExecutionRow.status.in_(ACTIVE_EXECUTION))
        )
        or 0
    )


def _bytes(session: Session, project_id: str) -> int:
    uploaded = session.scalar(
        select(func.sum(NodeRow.uploaded_bytes)).where(
            NodeRow.project_id == project_id, NodeRow.status.in_(_COSTING), NodeRow.ended_at.is_(None)
        )
    )
    return int(uploaded or 0)


def _spend(session: Session, project_id: str) -> float:
    # Select columns, not rows. The cluster is not locked yet, so no row may stay in the session.
    nodes = session.execute(
        select(NodeRow.started_at, NodeRow.ended_at, NodeRow.former_sandboxes, NodeRow.price_per_minute).where(
            NodeRow.project_id == project_id,
            or_(NodeRow.started_at.is_not(None), func.jsonb_array_length(NodeRow.former_sandboxes) > 0),
        )
    )
    now = session.execute(select(func.clock_timestamp())).scalar_one()
    return float(spending.total(cast("Iterable[NodeRow]", nodes), now))


_CURRENT_USE: Final[dict[str, Callable[[Session, str], Amount]]] = {
    "clusters": _clusters,
    "nodes": _nodes,
    "running_sandboxes": _sandboxes,
    "upload_bytes": _bytes,
    "spend_usd": _spend,
    "executions": _executions,
}

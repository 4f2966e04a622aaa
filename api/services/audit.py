"""The audit log: who asked for what, which resource, when, from where, and what came of it. It only ever grows."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from api.domain import ids
from api.services.pages import Cursor, RowPage, fetch
from api.store.tables import AuditRow

_LONGEST = 200


@dataclass(slots=True)
class Entry:
    """What is known of a request once its key is. `planned` is the status of its success; `recorded` what already stands
    in the log of it. `detail` says more, and never holds data, code or a secret."""

    project_id: str
    key_id: str
    key_prefix: str
    operation: str
    resource: str | None
    address: str | None
    request_id: str
    planned: int
    detail: dict[str, Any] = field(default_factory=dict)
    recorded: int | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """Which entries; None does not narrow."""

    key_id: str | None = None
    operation: str | None = None
    resource: str | None = None
    status: int | None = None
    since: datetime | None = None
    until: datetime | None = None


def write(session: Session, entry: Entry, resource: str | None = None) -> None:
    """Record a success in the transaction that makes it one."""
    session.execute(insert(AuditRow).values(values(entry, entry.planned, resource)))


def write_all(session: Session, rows: Iterable[dict[str, Any]]) -> None:
    """Safe to do twice."""
    session.execute(insert(AuditRow).on_conflict_do_nothing(), list(rows))


def values(entry: Entry, status: int, resource: str | None = None, at: datetime | None = None) -> dict[str, Any]:
    found = {
        "id": ids.audit_id(),
        "project_id": entry.project_id,
        "key_id": entry.key_id,
        "key_prefix": plain(entry.key_prefix),
        "operation": entry.operation,
        "resource": plain(resource or entry.resource),
        "status": status,
        "address": entry.address,
        "request_id": entry.request_id,
        "detail": entry.detail,
    }
    return found if at is None else {**found, "created_at": at}


def page(session: Session, project_id: str, wanted: Query, limit: int, after: Cursor | None) -> RowPage[AuditRow]:
    """Newest first."""
    query = select(AuditRow).where(AuditRow.project_id == project_id)
    for column in ("key_id", "operation", "resource", "status"):
        value = getattr(wanted, column)
        if value is not None:
            query = query.where(getattr(AuditRow, column) == value)
    if wanted.since is not None:
        query = query.where(AuditRow.created_at >= wanted.since)
    if wanted.until is not None:
        query = query.where(AuditRow.created_at < wanted.until)
    return fetch(session, query, AuditRow, limit, after)


def plain(text: str | None) -> str | None:
    """What a client sent, short and without what a database cannot hold or a terminal should not see."""
    return None if text is None else "".join(char for char in text if char.isprintable())[:_LONGEST]

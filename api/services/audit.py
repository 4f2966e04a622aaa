"""The audit log: who sent which request, for which resource, when, from where, and with which
result.

Lines are only added, never changed.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from api.domain import ids
from api.services.pages import PageRequest, ResultPage, fetch_page
from api.store.tables import AuditRow

_LONGEST = 200


@dataclass(slots=True)
class AuditLine:
    """The line of one request in the audit log, from the moment its key is known.

    `planned` is the HTTP status of a success. `recorded` is the status that the log already has.
    `detail` never holds data, code or a secret.
    """

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
class AuditFilter:
    """Conditions on the lines of the log. None is no condition."""

    key_id: str | None = None
    operation: str | None = None
    resource: str | None = None
    status: int | None = None
    since: datetime | None = None
    until: datetime | None = None


def write(session: Session, record: AuditLine, resource: str | None = None) -> None:
    """Write a success in the transaction of its use case."""
    session.execute(insert(AuditRow).values(values(record, record.planned, resource)))


def write_all(session: Session, rows: Iterable[dict[str, Any]]) -> None:
    """Insert lines. It is safe to repeat the call."""
    session.execute(insert(AuditRow).on_conflict_do_nothing(), list(rows))


def values(record: AuditLine, status: int, resource: str | None = None, at: datetime | None = None) -> dict[str, Any]:
    columns = {
        "id": ids.audit_id(),
        "project_id": record.project_id,
        "key_id": record.key_id,
        "key_prefix": plain(record.key_prefix),
        "operation": record.operation,
        "resource": plain(resource or record.resource),
        "status": status,
        "address": record.address,
        "request_id": record.request_id,
        "detail": record.detail,
    }
    return columns if at is None else {**columns, "created_at": at}


def page(session: Session, project_id: str, audit_filter: AuditFilter, page_request: PageRequest) -> ResultPage[AuditRow]:
    """Return the newest lines first."""
    query = select(AuditRow).where(AuditRow.project_id == project_id)
    for column in ("key_id", "operation", "resource", "status"):
        value = getattr(audit_filter, column)
        if value is not None:
            query = query.where(getattr(AuditRow, column) == value)
    if audit_filter.since is not None:
        query = query.where(AuditRow.created_at >= audit_filter.since)
    if audit_filter.until is not None:
        query = query.where(AuditRow.created_at < audit_filter.until)
    return fetch_page(session, query, AuditRow, page_request)


def plain(text: str | None) -> str | None:
    """Return a client's text in at most 200 characters, without unprintable ones."""
    return None if text is None else "".join(char for char in text if char.isprintable())[:_LONGEST]

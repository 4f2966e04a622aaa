"""Who works on a row: a lease with a fencing token, on the database's clock."""

import secrets
from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import func, or_, select, update
from sqlalchemy.orm import Session

from api.store.kinds import LeasedRow, LeasedRowT


class LeaseLostError(Exception):
    """Another worker took the row over; what was done under the old lease must not be applied."""


def claim(session: Session, table: type[LeasedRow], row_id: str, seconds: float) -> str | None:
    """Take a due, free row; returns the fencing token, or None if it is not due or held by another."""
    token = secrets.token_hex(16)
    taken = session.execute(
        update(table)
        .where(
            table.id == row_id,
            table.due_at <= func.clock_timestamp(),
            or_(table.lease_until.is_(None), table.lease_until < func.clock_timestamp()),
        )
        .values(lease_token=token, lease_until=func.clock_timestamp() + timedelta(seconds=seconds), attempts=table.attempts + 1)
        .returning(table.id)
    ).first()
    return token if taken else None


def held(session: Session, table: type[LeasedRowT], row_id: str, token: str) -> LeasedRowT:
    """Lock and return the row, if `token` still holds it; else LeaseLostError."""
    row = session.scalar(select(table).where(table.id == row_id).with_for_update().execution_options(populate_existing=True))
    if row is None or row.lease_token != token:
        raise LeaseLostError(f"{table.__tablename__} {row_id}")
    return row


def renew(session: Session, table: type[LeasedRow], row_id: str, token: str, seconds: float) -> bool:
    """Hold the row longer; False when the lease is gone."""
    kept = session.execute(
        update(table)
        .where(table.id == row_id, table.lease_token == token)
        .values(lease_until=func.clock_timestamp() + timedelta(seconds=seconds))
        .returning(table.id)
    ).first()
    return kept is not None


def release(row: LeasedRow, due_in_s: float | None, *, waits: bool = False) -> None:
    """Give the row back, due again in so many seconds, or not at all (None). One that only `waits` has failed at nothing: its
    attempts count from the beginning."""
    row.lease_token = None
    row.lease_until = None
    row.due_at = None if due_in_s is None else func.clock_timestamp() + timedelta(seconds=due_in_s)
    if due_in_s is None or due_in_s == 0 or waits:
        row.attempts = 0


def wake(row: LeasedRow) -> None:
    """Make the row due now, whoever holds it: the step that comes next will look at it."""
    row.due_at = func.clock_timestamp()


def due(session: Session, table: type[LeasedRow], limit: int = 500) -> Sequence[str]:
    """Ids of rows that want a step and that nobody holds."""
    return session.scalars(
        select(table.id)
        .where(
            table.due_at <= func.clock_timestamp(),
            or_(table.lease_until.is_(None), table.lease_until < func.clock_timestamp()),
        )
        .order_by(table.due_at)
        .limit(limit)
    ).all()

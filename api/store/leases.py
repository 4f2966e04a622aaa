"""Leases: at most one worker works on a row.

A lease has a fencing token and the database's clock.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import func, or_, select, update
from sqlalchemy.orm import Session, aliased

from api.store.kinds import LeasedRow, LeasedRowT

_OWNERS = ("cluster_id", "training_id", "node_id")


class LeaseLostError(Exception):
    """Another worker has the row now. Results under the old lease must not be applied."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A lease: its fencing token, and whether another worker let the row's last lease expire."""

    token: str
    is_takeover: bool


def claim(session: Session, table: type[LeasedRow], row_id: str, seconds: float) -> Claim | None:
    """Lease a due row. Return None when it is not due or leased already."""
    token = secrets.token_hex(16)
    # RETURNING shows the new row. The old one is joined by its key.
    before = aliased(table)
    claimed = session.execute(
        update(table)
        .where(
            table.id == row_id,
            before.id == table.id,
            table.due_at <= func.clock_timestamp(),
            or_(table.lease_until.is_(None), table.lease_until < func.clock_timestamp()),
        )
        .values(lease_token=token, lease_until=func.clock_timestamp() + timedelta(seconds=seconds), attempts=table.attempts + 1)
        .returning(before.lease_token)
        .execution_options(synchronize_session=False)
    ).first()
    return Claim(token, claimed[0] is not None) if claimed else None


def owners(session: Session, table: type[LeasedRow], row_id: str) -> dict[str, str]:
    """Return the cluster, the training and the node that the row belongs to, by column."""
    names = [name for name in _OWNERS if name in table.__table__.columns]
    if not names:
        return {}
    row = session.execute(select(*(table.__table__.columns[name] for name in names)).where(table.id == row_id)).one()
    return dict(zip(names, row, strict=True))


def held(session: Session, table: type[LeasedRowT], row_id: str, token: str) -> LeasedRowT:
    """Lock and return the row.

    Raises:
        LeaseLostError: `token` no longer holds the lease.
    """
    row = session.scalar(select(table).where(table.id == row_id).with_for_update().execution_options(populate_existing=True))
    if row is None or row.lease_token != token:
        raise LeaseLostError(f"{table.__tablename__} {row_id}")
    return row


def renew(session: Session, table: type[LeasedRow], row_id: str, token: str, seconds: float) -> bool:
    """Extend the lease. Return False when it is lost."""
    renewed = session.execute(
        update(table)
        .where(table.id == row_id, table.lease_token == token)
        .values(lease_until=func.clock_timestamp() + timedelta(seconds=seconds))
        .returning(table.id)
    ).first()
    return renewed is not None


def release(row: LeasedRow, due_in_s: float | None, *, waits: bool = False) -> None:
    """End the lease. The row is due again in `due_in_s` seconds, or not at all (None).

    `waits`: the step did not fail but waits for something, so the attempts restart at 0. Only
    progress, which makes the row due at once or not at all, also clears the count of failures.
    """
    row.lease_token = None
    row.lease_until = None
    row.due_at = None if due_in_s is None else func.clock_timestamp() + timedelta(seconds=due_in_s)
    if due_in_s is None or due_in_s == 0 or waits:
        row.attempts = 0
    if due_in_s is None or due_in_s == 0:
        row.failures = 0


def give_back(row: LeasedRow, due_in_s: float, *, failed: bool) -> None:
    """End the lease of a step that did not succeed. `failed`: the row itself is the cause."""
    failures = row.failures + (1 if failed else 0)
    release(row, due_in_s)
    row.failures = failures


def wake(row: LeasedRow) -> None:
    """Make the row due now, also while it is leased. The next step then handles it."""
    row.due_at = func.clock_timestamp()


def due(session: Session, table: type[LeasedRow], limit: int = 500) -> Sequence[str]:
    """Return the ids of due rows without a lease, the longest due first."""
    return session.scalars(
        select(table.id)
        .where(
            table.due_at <= func.clock_timestamp(),
            or_(table.lease_until.is_(None), table.lease_until < func.clock_timestamp()),
        )
        .order_by(table.due_at)
        .limit(limit)
    ).all()

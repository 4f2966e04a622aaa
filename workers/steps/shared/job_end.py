"""The end of a prediction, an export or an execution.

The row is held once more, and its lease is released.
"""

from typing import TypeVar

from sqlalchemy import func

from api.domain.records import FailureReason
from api.services.lookup import locked_cluster
from api.store import leases, transitions
from api.store.database import UnitOfWork
from api.store.tables import ExecutionRow, ModelRow, PredictionRow
from workers.context import Context

JobRowT = TypeVar("JobRowT", ExecutionRow, ModelRow, PredictionRow)
PendingRowT = TypeVar("PendingRowT", ModelRow, PredictionRow)


def ended(uow: UnitOfWork, table: type[JobRowT], row_id: str, token: str) -> JobRowT:
    """Return the row that this step holds, with its end written down. Its lease is released.

    Raises:
        LeaseLostError: `token` no longer holds the lease.
    """
    locked_cluster(uow.session, uow.session.get_one(table, row_id).cluster_id)
    row = leases.held(uow.session, table, row_id, token)
    row.finished_at = row.finished_at or func.clock_timestamp()
    leases.release(row, None)
    return row


def fail(context: Context, table: type[PendingRowT], row_id: str, token: str, reason: FailureReason) -> None:
    """End the row as failed, unless it was cancelled meanwhile.

    Raises:
        LeaseLostError: `token` no longer holds the lease.
    """
    with context.database.unit_of_work() as uow:
        row = ended(uow, table, row_id, token)
        if row.status != "pending":
            return
        row.error = reason
        transitions.move(uow.session, row, "failed", error=reason.facts())

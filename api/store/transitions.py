"""The only place that changes a status: legal moves, and an event in the same transaction."""

from typing import Any

from sqlalchemy import func
from sqlalchemy.orm import Session

from api.domain import status
from api.store import events
from api.store.kinds import LeasedRow, kind_of
from api.store.tables import ClusterRow, ModelRow, PredictionRow, RoundRow, TrainingRow


def move(session: Session, row: LeasedRow, new: str, **data: Any) -> None:
    """Move a row to status `new` and record it. `data` (no secrets, no training data) goes into the event."""
    kind = kind_of(type(row))
    old = row.status
    status.check_move(kind.moves, kind.noun, old, new)
    row.status = new
    _record(session, row, kind.noun, {"from": old, "status": new, **data})


def created(session: Session, row: LeasedRow, **data: Any) -> None:
    """Add a new row and record its first status."""
    session.add(row)
    session.flush()
    _record(session, row, kind_of(type(row)).noun, {"from": None, "status": row.status, **data})


def move_round(row: RoundRow, new: str) -> None:
    """Rounds have richer events of their own, written by the step that measures them."""
    status.check_move(status.ROUND_MOVES, "round", row.status, new)
    row.status = new
    row.finished_at = func.now() if new != "running" else None


def _record(session: Session, row: LeasedRow, noun: str, data: dict[str, Any]) -> None:
    cluster_id = row.id if isinstance(row, ClusterRow) else row.cluster_id
    if isinstance(row, PredictionRow | ModelRow):
        data["training_id"] = row.training_id
    # A training's own stream ends with the training; what is later done with its model belongs to the cluster's.
    training_id = row.id if isinstance(row, TrainingRow) else None
    events.emit(session, cluster_id, f"{noun}.{data['status']}", {f"{noun}_id": row.id, **data}, training_id=training_id)

"""Change the status of a row: check the move and emit an event in the same transaction.

No other module changes a status.
"""

from typing import Any

from sqlalchemy import func
from sqlalchemy.orm import Session

from api.domain import status
from api.domain.events import EventType
from api.store import events
from api.store.kinds import StatusRow, kind_of
from api.store.tables import ClusterRow, ModelRow, PredictionRow, RoundRow, TrainingRow


def move(session: Session, row: StatusRow, new: str, **data: Any) -> None:
    """Move a row to status `new` and emit `<noun>.<status>`.

    `data` goes into the event. It must hold no secrets and no training data.

    Raises:
        IllegalMoveError: the table of moves does not allow it.
    """
    kind = kind_of(type(row))
    old = row.status
    status.check_move(kind.moves, kind.noun, old, new)
    row.status = new
    _record(session, row, kind.noun, {"from": old, "status": new, **data})


def created(session: Session, row: StatusRow, **data: Any) -> None:
    """Add a new row and emit the event of its first status."""
    session.add(row)
    session.flush()
    _record(session, row, kind_of(type(row)).noun, {"from": None, "status": row.status, **data})


def move_round(row: RoundRow, new: str) -> None:
    """Move a round to status `new`. The step that measures the round emits its events."""
    status.check_move(status.ROUND_MOVES, "round", row.status, new)
    row.status = new
    row.finished_at = func.now() if new != "running" else None


def _record(session: Session, row: StatusRow, noun: str, data: dict[str, Any]) -> None:
    cluster_id = row.id if isinstance(row, ClusterRow) else row.cluster_id
    if isinstance(row, PredictionRow | ModelRow):
        data["training_id"] = row.training_id
    # A training's stream ends with the training. Later predictions and exports are events of the
    # cluster only.
    training_id = row.id if isinstance(row, TrainingRow) else None
    event_type = EventType(f"{noun}.{data['status']}")
    events.emit(session, cluster_id, event_type, {f"{noun}_id": row.id, **data}, training_id=training_id)

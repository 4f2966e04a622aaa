"""The only place that changes a status: legal moves, and an event in the same transaction."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import func
from sqlalchemy.orm import Session

from api.domain import status
from api.store import events
from api.store.tables import ClusterRow, ModelRow, NodeRow, PredictionRow, RoundRow, SearchRow, TrainingRow

type_of_row: Mapping[type, tuple[str, Mapping[str, frozenset[str]]]] = {
    ClusterRow: ("cluster", status.CLUSTER_MOVES),
    NodeRow: ("node", status.NODE_MOVES),
    TrainingRow: ("training", status.TRAINING_MOVES),
    PredictionRow: ("prediction", status.PREDICTION_MOVES),
    ModelRow: ("model", status.MODEL_MOVES),
    SearchRow: ("search", status.SEARCH_MOVES),
}

Row = ClusterRow | NodeRow | TrainingRow | PredictionRow | ModelRow | SearchRow


def move(session: Session, row: Row, new: str, **data: Any) -> None:
    """Move a row to status `new` and record it. `data` (no secrets, no training data) goes into the event."""
    noun, moves = type_of_row[type(row)]
    old = row.status
    status.check_move(moves, noun, old, new)
    row.status = new
    _record(session, row, noun, {"from": old, "status": new, **data})


def created(session: Session, row: Row, **data: Any) -> None:
    """Add a new row and record its first status."""
    noun, _ = type_of_row[type(row)]
    session.add(row)
    session.flush()
    _record(session, row, noun, {"from": None, "status": row.status, **data})


def move_round(row: RoundRow, new: str) -> None:
    """Rounds have richer events of their own, written by the step that measures them."""
    status.check_move(status.ROUND_MOVES, "round", row.status, new)
    row.status = new
    row.finished_at = func.now() if new != "running" else None


def _record(session: Session, row: Row, noun: str, data: dict[str, Any]) -> None:
    cluster_id = row.id if isinstance(row, ClusterRow) else row.cluster_id
    if isinstance(row, PredictionRow | ModelRow):
        data["training_id"] = row.training_id
    # A training's own stream ends with the training; what is later done with its model belongs to the cluster's.
    training_id = row.id if isinstance(row, TrainingRow) else None
    events.emit(session, cluster_id, f"{noun}.{data['status']}", {f"{noun}_id": row.id, **data}, training_id=training_id)

"""Decisions that nodes made by themselves, as events.

Each becomes one event, however often it is reported.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.domain.events import EventType
from api.store import events
from api.store.tables import EventRow, TrainingRow
from workers.agent.protocol.common import Decision

# A limit against a node that floods the log. Honest reports have a few decisions.
_MOST = 50


def record_decisions(
    session: Session, training: TrainingRow, number: int, node_id: str, decisions: Sequence[Decision]
) -> list[dict[str, Any]]:
    """Emit the decisions that were not emitted before, and return them.

    A node and a time identify a decision.
    """
    by_time = {decision.at: decision for decision in decisions[:_MOST]}
    if not by_time:
        return []
    known = session.scalars(
        select(EventRow.data["at"].astext).where(
            EventRow.cluster_id == training.cluster_id,
            EventRow.type == EventType.NODE_DECISION,
            EventRow.data["node_id"].astext == node_id,
            EventRow.data["at"].astext.in_(by_time),
        )
    ).all()
    new = [decision.model_dump() for at, decision in by_time.items() if at not in known]
    for facts in new:
        data = {"training_id": training.id, "node_id": node_id, "round": number, **facts}
        events.emit(session, training.cluster_id, EventType.NODE_DECISION, data, training_id=training.id)
    return new

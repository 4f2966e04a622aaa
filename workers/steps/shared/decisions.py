"""What nodes decided by themselves, as events: each decision once, however often a step hears of it."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.store import events
from api.store.tables import EventRow
from workers.agent.protocol.common import Decision
from workers.steps.shared.training_snapshot import TrainingSnapshot

_TYPE = "node.decision"
# A node's decisions in one report; whoever sends more is not deciding.
_MOST = 50


def record_decisions(
    session: Session, job: TrainingSnapshot, number: int, node_id: str, decisions: Sequence[Decision]
) -> list[dict[str, Any]]:
    """Emit the decisions that are news, and return them. A decision is known by its node and its moment."""
    found = {decision.at: decision for decision in decisions[:_MOST]}
    if not found:
        return []
    known = session.scalars(
        select(EventRow.data["at"].astext).where(
            EventRow.cluster_id == job.cluster_id,
            EventRow.type == _TYPE,
            EventRow.data["node_id"].astext == node_id,
            EventRow.data["at"].astext.in_(found),
        )
    ).all()
    news = [decision.model_dump() for at, decision in found.items() if at not in known]
    for facts in news:
        data = {"training_id": job.training_id, "node_id": node_id, "round": number, **facts}
        events.emit(session, job.cluster_id, _TYPE, data, training_id=job.training_id)
    return news

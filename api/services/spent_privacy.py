"""What the rounds of a training have spent of its differential privacy."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.domain.accountant import DpSgdSteps
from api.store.tables import RoundNodeRow


def parts(node: RoundNodeRow) -> tuple[DpSgdSteps, ...]:
    """Return the steps that a worker was charged for in one round."""
    return node.privacy.parts if node.privacy is not None else ()


def steps(session: Session, training_id: str, node_id: str, below: int | None = None) -> list[DpSgdSteps]:
    """Return the steps that a worker was charged for, in all rounds or in those below a number."""
    query = select(RoundNodeRow).where(RoundNodeRow.training_id == training_id, RoundNodeRow.node_id == node_id)
    if below is not None:
        query = query.where(RoundNodeRow.number < below)
    return [part for node in session.scalars(query) for part in parts(node)]

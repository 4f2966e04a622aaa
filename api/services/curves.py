"""The figures of a training's completed rounds, as one series for each figure."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.services import progress
from api.services.lookup import owned
from api.store.tables import RoundNodeRow, RoundRow, TrainingRow

MOST_ROUNDS = 1000


@dataclass(frozen=True, slots=True)
class CurvesView:
    """The rounds by number. `costs` has one entry for each round.

    `workers` has the rounds of each worker by number.
    """

    training: TrainingRow
    rounds: Sequence[RoundRow]
    costs: Sequence[Decimal]
    workers: dict[str, dict[int, RoundNodeRow]]


def view(session: Session, project_id: str, training_id: str, after: int) -> CurvesView:
    """Return the completed rounds with a number above `after`, at most `MOST_ROUNDS`."""
    training = owned(session, TrainingRow, project_id, training_id)
    rounds = session.scalars(
        select(RoundRow)
        .where(RoundRow.training_id == training.id, RoundRow.number > after, RoundRow.status == "completed")
        .order_by(RoundRow.number)
        .limit(MOST_ROUNDS)
    ).all()
    numbers = [row.number for row in rounds]
    workers: dict[str, dict[int, RoundNodeRow]] = {}
    for row in session.scalars(
        select(RoundNodeRow)
        .where(RoundNodeRow.training_id == training.id, RoundNodeRow.number.in_(numbers))
        .order_by(RoundNodeRow.node_id)
    ):
        workers.setdefault(row.node_id, {})[row.number] = row
    return CurvesView(training, rounds, progress.round_costs(session, training, rounds), workers)

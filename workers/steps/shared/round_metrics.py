"""The figures of a training's completed rounds, by name, for tools that draw curves."""

import math
from collections.abc import Iterator, Sequence

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from api.store.tables import RoundNodeRow, RoundRow
from workers.agent.protocol.exports import RoundMetrics

_OF_ROUND = (
    *("global_loss", "global_accuracy", "validation_loss", "validation_accuracy", "consensus_distance"),
    *("seconds", "train_seconds", "bytes_received"),
)
_OF_WORKER = ("local_loss", "local_accuracy")
# Beyond it, curves of single workers would be larger than most models.
MOST_WORKER_ROUNDS = 50_000


def until(session: Session, training_id: str, digest: str) -> Sequence[RoundRow]:
    """Return the completed rounds up to the one that made `digest`, by number."""
    last = select(func.max(RoundRow.number)).where(RoundRow.training_id == training_id, RoundRow.digest == digest)
    return session.scalars(_completed(training_id).where(RoundRow.number <= last.scalar_subquery())).all()


def after(session: Session, training_id: str, number: int, most: int) -> Sequence[RoundRow]:
    """Return at most `most` completed rounds with a number above `number`, by number."""
    return session.scalars(_completed(training_id).where(RoundRow.number > number).limit(most)).all()


def metrics(session: Session, rounds: Sequence[RoundRow], *, workers: bool = True) -> list[RoundMetrics]:
    """Return the figures of completed rounds of one training. What was not measured is left out.

    With `workers`, they include those of single workers, unless the rounds have more than
    `MOST_WORKER_ROUNDS` of them.
    """
    nodes = _nodes(session, rounds) if workers and rounds else {}
    return [
        RoundMetrics(
            number=row.number,
            ended_at=(row.finished_at or row.started_at).timestamp(),
            values=dict(_values(row, nodes.get(row.number, ()))),
        )
        for row in rounds
    ]


def _nodes(session: Session, rounds: Sequence[RoundRow]) -> dict[int, list[RoundNodeRow]]:
    of_rounds = (RoundNodeRow.training_id == rounds[0].training_id, RoundNodeRow.number.in_([row.number for row in rounds]))
    count = session.scalar(select(func.count()).select_from(RoundNodeRow).where(*of_rounds)) or 0
    if count > MOST_WORKER_ROUNDS:
        return {}
    nodes: dict[int, list[RoundNodeRow]] = {}
    for node in session.scalars(select(RoundNodeRow).where(*of_rounds).order_by(RoundNodeRow.node_id)):
        nodes.setdefault(node.number, []).append(node)
    return nodes


def _completed(training_id: str) -> Select[RoundRow]:
    return select(RoundRow).where(RoundRow.training_id == training_id, RoundRow.status == "completed").order_by(RoundRow.number)


def _values(row: RoundRow, workers: Sequence[RoundNodeRow]) -> Iterator[tuple[str, float]]:
    found = [(name, getattr(row, name)) for name in _OF_ROUND]
    found += [(f"{name}/{worker.node_id}", getattr(worker, name)) for worker in workers for name in _OF_WORKER]
    return ((name, float(value)) for name, value in found if value is not None and math.isfinite(value))

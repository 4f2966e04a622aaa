"""A training's red flags. A flag is raised once, and goes when its cause is over."""

from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.domain import red_flags
from api.domain.events import EventType
from api.domain.red_flags import Flag, ObservedWorker, RaisedFlag, RoundFacts
from api.store import events
from api.store.tables import NodeRow, RoundNodeRow, RoundRow, TrainingRow


def update(session: Session, training: TrainingRow) -> None:
    """Check the rounds and nodes of a training whose cluster is locked.

    A new flag is an event. A flag that stays keeps the round and the time in which it was raised.
    """
    session.flush()
    found = red_flags.find(*_facts(session, training), training.config.learning_rate, len(training.labels or ()))
    kept = [flag for flag in training.red_flags if flag.code in red_flags.DATA_FLAGS | red_flags.JOIN_FLAGS]
    _record(session, training, found, kept)


def replace_data_flags(session: Session, training: TrainingRow, flags: Iterable[Flag]) -> None:
    """Raise the flags of the training's data. Those of an earlier check go."""
    kept = [flag for flag in training.red_flags if flag.code not in red_flags.DATA_FLAGS]
    _record(session, training, flags, kept)


def add_data_flags(session: Session, training: TrainingRow, flags: Iterable[Flag]) -> None:
    """Raise the flags of the data of workers that join."""
    new = list(flags)
    names = {(flag.code, flag.node_id) for flag in new}
    _record(session, training, new, [flag for flag in training.red_flags if (flag.code, flag.node_id) not in names])


def add_failure(session: Session, training: TrainingRow, flag: Flag) -> None:
    """Raise the flag of a round that has failed for good. It goes when the training is resumed."""
    _record(session, training, [flag], training.red_flags)


def replace_join_flags(session: Session, training: TrainingRow, flags: Iterable[Flag]) -> None:
    """Raise the flags of running workers that take no part. Those of an earlier check go."""
    kept = [flag for flag in training.red_flags if flag.code not in red_flags.JOIN_FLAGS]
    _record(session, training, flags, kept)


def _record(session: Session, training: TrainingRow, found: Iterable[Flag], kept: Iterable[RaisedFlag]) -> None:
    """Store the flags that were found beside those that are kept. A new flag is an event."""
    raised = {(flag.code, flag.node_id): flag for flag in training.red_flags}
    now: datetime = session.execute(select(func.clock_timestamp())).scalar_one()
    current = list(kept)
    for flag in found:
        new = RaisedFlag(**asdict(flag), since=now.astimezone(UTC).isoformat())
        old = raised.get((flag.code, flag.node_id))
        if old is None:
            data = {"training_id": training.id, **new.model_dump()}
            events.emit(session, training.cluster_id, EventType.TRAINING_RED_FLAG, data, training_id=training.id)
            current.append(new)
        else:
            current.append(new.model_copy(update={"round": old.round, "since": old.since}))
    current.sort(key=lambda flag: (flag.code, flag.node_id or ""))
    if current != training.red_flags:
        training.red_flags = current


def _facts(session: Session, training: TrainingRow) -> tuple[list[tuple[int, float | None]], list[RoundFacts], dict[str, str]]:
    rounds = session.execute(
        select(RoundRow.number, RoundRow.status, RoundRow.global_loss)
        .where(RoundRow.training_id == training.id)
        .order_by(RoundRow.number)
    ).all()
    newest = rounds[-red_flags.WINDOW :]
    workers: dict[int, dict[str, ObservedWorker]] = {number: {} for number, _, _ in newest}
    for row in session.scalars(
        select(RoundNodeRow).where(RoundNodeRow.training_id == training.id, RoundNodeRow.number.in_(workers))
    ):
        workers[row.number][row.node_id] = ObservedWorker(row.state, row.local_loss, row.reason)
    nodes = session.execute(
        select(NodeRow.id, NodeRow.status, NodeRow.due_at).where(
            NodeRow.id.in_([*training.workers, training.aggregator_id]),
            NodeRow.status.in_(("provisioning", "lost", "failed")),
        )
    )
    losses = [(number, loss) for number, status, loss in rounds if status == "completed"]
    facts = [RoundFacts(number, loss, workers[number]) for number, _, loss in newest]
    away = {node_id: "returning" if status == "lost" and due_at is not None else status for node_id, status, due_at in nodes}
    return losses, facts, away

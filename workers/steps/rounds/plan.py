"""The rows of a round. Who takes part, and by which data path, is decided once and written down."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.domain import sampling, topology
from api.domain.events import EventType
from api.services import progress
from api.services.lookup import locked_cluster
from api.store import events, leases, transitions
from api.store.tables import RoundNodeRow, RoundRow, TrainingRow
from workers.context import Context
from workers.steps.rounds import privacy
from workers.steps.shared.agent_messages import compression
from workers.steps.shared.training_snapshot import TrainingSnapshot

_OUTSIDE = ("failed", "declined", "not_sampled")


@dataclass(frozen=True, slots=True)
class OpenedRound:
    """An open round: the state of each worker in it, and its data path."""

    states: Mapping[str, str]
    data_path: str

    @property
    def excluded(self) -> tuple[str, ...]:
        """Workers that failed or declined in this round."""
        return tuple(node_id for node_id, state in self.states.items() if state in ("failed", "declined"))

    def includes(self, node_id: str) -> bool:
        return self.states.get(node_id) not in _OUTSIDE

    def lost(self, present: Collection[str]) -> tuple[str, ...]:
        """Workers that still should train, and are not among those present."""
        return tuple(node_id for node_id, state in self.states.items() if state == "training" and node_id not in present)


def open_round(context: Context, training: TrainingSnapshot, token: str, number: int) -> OpenedRound:
    """Open round `number`, or read it where it is open already."""
    with context.database.unit_of_work() as uow:
        session = uow.session
        locked_cluster(session, training.cluster_id)
        training_row = leases.held(session, TrainingRow, training.training_id, token)
        row = session.get(RoundRow, (training.training_id, number))
        if row is not None and row.status == "running":
            return OpenedRound(_states(session, row), row.data_path or "star")
        if row is None:
            row = RoundRow(training_id=training.training_id, number=number, status="running", base_digest=training.digest or "")
            session.add(row)
        else:
            transitions.move_round(row, "running")
            row.started_at = func.clock_timestamp()
            row.error = row.fallback = None
        session.flush()
        drawn = _draw_workers(session, training, row)
        row.data_path, row.data_path_reason = _data_path(training, drawn)
        for node in drawn.values():
            privacy.charge(session, training, training_row, node)
        progress.note_workers(session, training_row, number)
        _emit_started(session, training, row, list(drawn))
        return OpenedRound(_states(session, row), row.data_path)


def round_node(session: Session, row: RoundRow, node_id: str) -> RoundNodeRow:
    """The row of one worker in a round. It is made where it is missing."""
    node = session.get(RoundNodeRow, (row.training_id, row.number, node_id))
    if node is None:
        node = _new_node(row, node_id, "training")
        session.add(node)
    return node


def _new_node(row: RoundRow, node_id: str, state: str) -> RoundNodeRow:
    return RoundNodeRow(training_id=row.training_id, number=row.number, node_id=node_id, state=state, decisions=[])


def _draw_workers(session: Session, training: TrainingSnapshot, row: RoundRow) -> dict[str, RoundNodeRow]:
    """Draw the round's workers by the seed, and write down each worker's state."""
    nodes = {node.node_id: node for node in _nodes(session, row)}
    candidates = [node.node_id for node in (*training.workers, *training.recovering)]
    drawn = sampling.draw(candidates, training.drawn_per_round, training.spec.seed, row.number)
    for node_id in candidates:
        state = "training" if node_id in drawn else "not_sampled"
        node = nodes.get(node_id)
        if node is None:
            node = nodes[node_id] = _new_node(row, node_id, state)
            session.add(node)
        node.state, node.reason = state, None
    session.flush()
    return {node_id: nodes[node_id] for node_id in drawn}


def _data_path(training: TrainingSnapshot, drawn: Collection[str]) -> tuple[str, str | None]:
    """The round's data path, and why it is a star where the topology is another."""
    spec = training.spec
    kind, reason = topology.data_path(
        training.topology,
        len(drawn),
        training.cluster.consensus,
        spec.strategy,
        partial=spec.freeze_layers > 0 or not compression(spec).is_none,
        secure=spec.secure_aggregation,
    )
    if kind != "star" and any(node.node_id in drawn for node in training.recovering):
        return "star", "one of the workers is not back yet"
    return kind, reason


def _emit_started(session: Session, training: TrainingSnapshot, row: RoundRow, drawn: list[str]) -> None:
    events.emit(
        session,
        training.cluster_id,
        EventType.ROUND_STARTED,
        {
            "training_id": training.training_id,
            "round": row.number,
            "workers": drawn,
            "data_path": row.data_path,
            "data_path_reason": row.data_path_reason,
        },
        training_id=training.training_id,
    )


def _states(session: Session, row: RoundRow) -> dict[str, str]:
    return {node.node_id: node.state for node in _nodes(session, row)}


def _nodes(session: Session, row: RoundRow) -> Sequence[RoundNodeRow]:
    return session.scalars(
        select(RoundNodeRow).where(RoundNodeRow.training_id == row.training_id, RoundNodeRow.number == row.number)
    ).all()

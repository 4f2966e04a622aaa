"""The rows of a round: who takes part and by which data path, decided once and written down."""

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.domain import sampling, topology
from api.services.lookup import locked_cluster
from api.store import events, leases, transitions
from api.store.tables import RoundNodeRow, RoundRow, TrainingRow
from workers.context import Context
from workers.steps.rounds import privacy
from workers.steps.shared.training_snapshot import TrainingSnapshot


def open_round(context: Context, job: TrainingSnapshot, token: str, number: int) -> tuple[dict[str, str], str]:
    """Make the round's row if it is new: who takes part and by which data path is decided then, and written down. Returns
    the state of each worker in it, and the path."""
    with context.database.unit_of_work() as uow:
        session = uow.session
        locked_cluster(session, job.cluster_id)
        leases.held(session, TrainingRow, job.training_id, token)
        row = session.get(RoundRow, (job.training_id, number))
        if row is None:
            row = RoundRow(training_id=job.training_id, number=number, status="running", base_digest=job.digest or "")
            session.add(row)
        elif row.status == "running":
            return _states(session, job.training_id, number), row.data_path or "star"
        else:
            transitions.move_round(row, "running")
            row.started_at = func.clock_timestamp()
            row.error = row.fallback = None
        session.flush()
        members = [member.node_id for member in (*job.workers, *job.recovering)]
        drawn = sampling.draw(members, job.drawn_per_round, job.config["seed"], number)
        for node_id in members:
            node = round_node(session, job.training_id, number, node_id)
            node.state, node.reason = "training" if node_id in drawn else "not_sampled", None
        partial = not job.compression.is_none or job.config["freeze_layers"] > 0
        kind, reason = topology.data_path(
            job.topology,
            len(drawn),
            job.cluster_config["consensus"],
            job.config["strategy"],
            partial=partial,
            secure=job.config["secure_aggregation"],
        )
        if kind != "star" and any(member.node_id in drawn for member in job.recovering):
            kind, reason = "star", "one of the workers is not back yet"
        row.data_path, row.data_path_reason = kind, reason
        training = leases.held(session, TrainingRow, job.training_id, token)
        for node_id in drawn:
            privacy.begin(session, job, training, round_node(session, job.training_id, number, node_id))
        events.emit(
            session,
            job.cluster_id,
            "round.started",
            {
                "training_id": job.training_id,
                "round": number,
                "workers": drawn,
                "data_path": kind,
                "data_path_reason": reason,
            },
            training_id=job.training_id,
        )
        return _states(session, job.training_id, number), kind


def _states(session: Session, training_id: str, number: int) -> dict[str, str]:
    rows = session.scalars(select(RoundNodeRow).where(RoundNodeRow.training_id == training_id, RoundNodeRow.number == number))
    return {row.node_id: row.state for row in rows}


def round_node(session: Session, training_id: str, number: int, node_id: str) -> RoundNodeRow:
    row = session.get(RoundNodeRow, (training_id, number, node_id))
    if row is None:
        row = RoundNodeRow(training_id=training_id, number=number, node_id=node_id, state="training", decisions=[])
        session.add(row)
    return row

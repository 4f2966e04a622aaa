"""What a step of a round has observed is written down: figures, states, events, and what is
next.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.domain import progress
from api.domain.events import WORKER_STATE_EVENTS, EventType
from api.domain.steps import Step
from api.domain.stopping import TrainingStop, stop_reason
from api.runtime import tracing
from api.services import progress as figures
from api.services import searches
from api.services.lookup import locked_cluster
from api.services.nodes import flag_rejected
from api.store import events, leases, transitions
from api.store.tables import RoundNodeRow, RoundRow, TrainingRow
from workers.agent.protocol.aggregation import AggregateReport
from workers.agent.protocol.training import TrainReport
from workers.steps.rounds import privacy
from workers.steps.rounds.context import RoundContext
from workers.steps.rounds.figures import RoundFigures
from workers.steps.rounds.observation import RoundObservation
from workers.steps.rounds.plan import round_node
from workers.steps.shared import red_flags
from workers.steps.shared.decisions import record_decisions

_TRACED = ("train_seconds", "aggregate_seconds", "consensus_seconds", "evaluate_seconds", "bytes_received")
_LATE = "its update had not come by the round's deadline"


@dataclass(frozen=True, slots=True)
class _Rows:
    """The rows that a step of a round writes, in one transaction."""

    session: Session
    training: TrainingRow
    round: RoundRow
    # Read at once. While they are here, the session does not read them again.
    nodes: Sequence[RoundNodeRow]

    def emit(self, event_type: EventType, facts: dict[str, object]) -> None:
        """Append an event of this round."""
        data = {"training_id": self.training.id, "round": self.round.number, **facts}
        events.emit(self.session, self.training.cluster_id, event_type, data, training_id=self.training.id)


def record(this: RoundContext, observation: RoundObservation) -> None:
    """Write down what was observed.

    The training is due again at once, unless the round has failed for good.
    """
    aggregate, completed = observation.aggregate, None
    with this.context.database.unit_of_work() as uow:
        rows = _lock(uow.session, this)
        if aggregate is not None:
            record_decisions(rows.session, rows.training, this.number, aggregate.node_id, aggregate.decisions)
        _record_workers(rows, observation)
        if aggregate is not None:
            _record_aggregate(rows, aggregate)
        if aggregate is not None and aggregate.state == "done" and rows.training.status in ("training", "stopping"):
            _complete(rows, this, observation, aggregate)
            completed = RoundFigures.of(rows.round, aggregate)
            _trace(rows)
            searches.wake_search(uow, rows.training)
        figures.note_workers(uow.session, rows.training, this.number)
        red_flags.update(uow.session, rows.training)
        if not observation.has_failed_for_good:
            leases.release(rows.training, 0)
            uow.enqueue(Step.TRAININGS_ADVANCE, rows.training.id)
    if completed is not None:
        completed.count()


def _lock(session: Session, this: RoundContext) -> _Rows:
    locked_cluster(session, this.training.cluster_id)
    training = leases.held(session, TrainingRow, this.training.training_id, this.token)
    query = select(RoundRow).where(RoundRow.training_id == training.id, RoundRow.number == this.number)
    nodes = select(RoundNodeRow).where(RoundNodeRow.training_id == training.id, RoundNodeRow.number == this.number)
    return _Rows(session, training, session.execute(query).scalar_one(), session.scalars(nodes).all())


def _record_aggregate(rows: _Rows, aggregate: AggregateReport) -> None:
    row = rows.round
    if aggregate.fallback is not None and row.fallback is None:
        row.fallback = aggregate.fallback
        rows.emit(EventType.ROUND_FALLBACK, {"data_path": row.data_path, "reason": row.fallback})
    row.votes = [vote.model_dump() for vote in aggregate.votes]
    row.audits = [audit.model_dump() for audit in aggregate.audits]


def _record_workers(rows: _Rows, observation: RoundObservation) -> None:
    aggregate = observation.aggregate
    received = {report.node_id: report for report in aggregate.received} if aggregate is not None else {}
    for node_id in {*observation.reports, *received, *observation.lost, *observation.failed}:
        node = round_node(rows.session, rows.round, node_id)
        own_report, received_report = observation.reports.get(node_id), received.get(node_id)
        newest = received_report or own_report
        if newest is not None:
            _copy_figures(node, newest)
            privacy.settle(rows.session, rows.training, node, newest.private_steps)
        for report in (own_report, received_report):
            if report is not None:
                new = record_decisions(rows.session, rows.training, rows.round.number, node_id, report.decisions)
                node.decisions = [*node.decisions, *new] if new else node.decisions
        state = _state_of(node_id, observation, received)
        if state is not None:
            _set_state(rows, node, *state)


def _state_of(node_id: str, observation: RoundObservation, received: dict[str, TrainReport]) -> tuple[str, str | None] | None:
    """A worker's state in the round and its reason. None while there is nothing new."""
    aggregate = observation.aggregate
    if aggregate is not None and node_id in aggregate.rejected:
        return "rejected", aggregate.rejected[node_id]
    if node_id in received:
        return "done", None
    if aggregate is not None and node_id in aggregate.late and node_id not in observation.lost:
        return "late", _LATE
    for state, reasons in (
        ("lost", observation.lost),
        ("failed", observation.failed),
        ("declined", observation.declined),
    ):
        if node_id in reasons:
            return state, reasons[node_id]
    return None


def _copy_figures(node: RoundNodeRow, report: TrainReport) -> None:
    """Copy what was measured. A report arrives twice, and its nulls never replace a figure."""
    node.samples = report.samples if report.samples is not None else node.samples
    node.local_loss = report.loss if report.loss is not None else node.local_loss
    node.local_accuracy = report.accuracy if report.accuracy is not None else node.local_accuracy
    node.train_seconds = report.train_seconds if report.train_seconds is not None else node.train_seconds
    node.bytes_sent = report.bytes_sent if report.bytes_sent is not None else node.bytes_sent
    if report.commitment is not None:
        node.commitment = report.commitment.model_dump()


def _set_state(rows: _Rows, node: RoundNodeRow, state: str, reason: str | None) -> None:
    if node.state == state:
        return
    node.state, node.reason = state, reason
    if state == "rejected" and reason is not None:
        flag_rejected(rows.session, node, reason)
    if state != "done":
        rows.emit(WORKER_STATE_EVENTS[state], {"node_id": node.node_id, "reason": reason})


def _complete(rows: _Rows, this: RoundContext, observation: RoundObservation, aggregate: AggregateReport) -> None:
    """The round has its model: write down its figures, and decide whether the training goes on."""
    row, training = rows.round, rows.training
    accepted = [report for report in aggregate.received if report.node_id in aggregate.accepted]
    _copy_aggregate(row, aggregate)
    _copy_evaluations(row, observation)
    row.global_loss = progress.weighted_mean([(report.loss, report.samples) for report in accepted])
    row.global_accuracy = progress.weighted_mean([(report.accuracy, report.samples) for report in accepted])
    if row.data_path == "star" and this.spec.federated:
        row.compression_ratio = progress.compression_ratio(
            aggregate.bytes_received, len(aggregate.received), training.parameters
        )
    row.train_seconds = max((report.train_seconds for report in accepted if report.train_seconds is not None), default=None)
    row.links = [
        {"from": link.source, "to": link.target, "bytes": link.bytes, "seconds": link.seconds}
        for link in (*aggregate.links, *observation.links)
    ]
    row.copies = observation.copies
    for report in accepted:
        node = round_node(rows.session, row, report.node_id)
        if node.bytes_sent is None:
            node.bytes_sent = sum(link.bytes for link in aggregate.links if link.source == report.node_id)
    row.seconds = rows.session.scalar(
        select(func.extract("epoch", func.clock_timestamp() - RoundRow.started_at)).where(
            RoundRow.training_id == row.training_id, RoundRow.number == row.number
        )
    )
    transitions.move_round(row, "completed")
    training.digest = aggregate.digest
    training.completed_rounds = row.number
    figures.note_round(training, row)
    # A training that is being stopped has its reason already.
    if row.number < this.spec.total_rounds and training.status == "training":
        training.stop_reason = _stop_reason(rows)
    _emit_completed(rows, this, aggregate)


def _trace(rows: _Rows) -> None:
    """Record the completed round as a span below the request that led to it."""
    row = rows.round
    ended = rows.session.execute(select(func.clock_timestamp())).scalar_one()
    states = Counter(node.state for node in rows.nodes)
    measured = {name: getattr(row, name) for name in _TRACED}
    fields = {name: value for name, value in measured.items() if value is not None}
    tracing.measured(
        "round",
        row.started_at,
        ended,
        {"training_id": row.training_id, "round": row.number, "accepted": states["done"], **fields},
    )


def _copy_aggregate(row: RoundRow, aggregate: AggregateReport) -> None:
    row.digest = aggregate.digest
    row.bytes_received = aggregate.bytes_received
    row.aggregate_seconds = aggregate.aggregate_seconds
    row.consensus_distance = aggregate.consensus_distance
    row.consensus_seconds = aggregate.consensus_seconds
    row.late_updates = len(aggregate.late)
    row.notices = list(aggregate.notices)


def _copy_evaluations(row: RoundRow, observation: RoundObservation) -> None:
    evaluations = observation.evaluations
    row.validation_loss = progress.weighted_mean([(result.loss, result.samples) for result in evaluations])
    row.validation_accuracy = progress.weighted_mean([(result.accuracy, result.samples) for result in evaluations])
    row.validation_samples = sum(result.samples for result in evaluations) or None
    row.validation_source = observation.evaluated_by
    row.evaluate_seconds = observation.evaluate_seconds


def _emit_completed(rows: _Rows, this: RoundContext, aggregate: AggregateReport) -> None:
    row = rows.round
    rows.emit(
        EventType.ROUND_COMPLETED,
        {
            "epoch": this.spec.epochs_after(row.number),
            "total_epochs": this.spec.epochs,
            "global_loss": row.global_loss,
            "global_accuracy": row.global_accuracy,
            "validation_accuracy": row.validation_accuracy,
            "seconds": float(row.seconds) if row.seconds is not None else None,
            "accepted": aggregate.accepted,
            "rejected": aggregate.rejected,
            "notices": aggregate.notices,
            "worker_figures": {
                report.node_id: {"local_loss": report.loss, "samples": report.samples} for report in aggregate.received
            },
        },
    )


def _stop_reason(rows: _Rows) -> TrainingStop | None:
    """Why no further round is to run. None where one is."""
    session, training, last = rows.session, rows.training, rows.round
    session.flush()
    accuracies = session.scalars(
        select(RoundRow.validation_accuracy)
        .where(
            RoundRow.training_id == training.id,
            RoundRow.status == "completed",
            RoundRow.number > training.config.rounds_before_extension,
        )
        .order_by(RoundRow.number)
    ).all()
    seconds = None if last.seconds is None else float(last.seconds)
    return stop_reason(training.config.stopping_rules, accuracies, figures.spent(session, training), seconds)

"""What a round has brought, written down: figures of workers and round, events, and what comes next."""

from dataclasses import asdict
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.domain import progress
from api.domain.specs import stopping_rules
from api.domain.steps import Step
from api.domain.stopping import stop_reason
from api.services import progress as figures
from api.services import searches
from api.services.lookup import locked_cluster
from api.services.nodes import flag_rejected
from api.store import events, leases, transitions
from api.store.tables import RoundNodeRow, RoundRow, TrainingRow
from workers.agent.protocol.aggregation import AggregateReport
from workers.agent.protocol.training import TrainReport
from workers.context import Context
from workers.steps.rounds import privacy
from workers.steps.rounds.observation import RoundObservation, is_hopeless
from workers.steps.rounds.plan import round_node
from workers.steps.shared import red_flags
from workers.steps.shared.decisions import record_decisions
from workers.steps.shared.training_snapshot import TrainingSnapshot


def record(context: Context, job: TrainingSnapshot, token: str, number: int, outcome: RoundObservation) -> None:
    """Write down what was measured, and go on: with the next round, or with waiting for this one."""
    with context.database.unit_of_work() as uow:
        session = uow.session
        locked_cluster(session, job.cluster_id)
        training = leases.held(session, TrainingRow, job.training_id, token)
        row = session.execute(
            select(RoundRow).where(RoundRow.training_id == job.training_id, RoundRow.number == number)
        ).scalar_one()
        _record_nodes(session, job, training, number, outcome)
        aggregate = outcome.aggregate
        if aggregate is not None and aggregate.fallback is not None and row.fallback is None:
            row.fallback = aggregate.fallback
            events.emit(
                session,
                job.cluster_id,
                "round.fallback",
                {"training_id": job.training_id, "round": number, "data_path": row.data_path, "reason": row.fallback},
                training_id=job.training_id,
            )
        if aggregate is not None:
            row.votes = [vote.model_dump() for vote in aggregate.votes]
            row.audits = [audit.model_dump() for audit in aggregate.audits]
        if aggregate is not None and aggregate.state == "done" and training.status in ("training", "stopping"):
            _complete(session, job, training, row, outcome, aggregate)
            searches.wake_search(uow, training)
        red_flags.update(session, training)
        # A hopeless round ends its training, under the same lease.
        if aggregate is None or not is_hopeless(aggregate):
            leases.release(training, 0)
            uow.enqueue(Step.TRAININGS_ADVANCE, training.id)


def _record_nodes(
    session: Session, job: TrainingSnapshot, training: TrainingRow, number: int, outcome: RoundObservation
) -> None:
    aggregate = outcome.aggregate
    received = {report.node_id: report for report in aggregate.received} if aggregate else {}
    if aggregate is not None:
        record_decisions(session, job, number, aggregate.node_id, aggregate.decisions)
    for node_id in {*outcome.reports, *received, *outcome.lost, *outcome.failed}:
        row = round_node(session, job.training_id, number, node_id)
        report = received.get(node_id) or outcome.reports.get(node_id)
        if report is not None:
            _copy_report(row, report)
            privacy.settle(session, training, row, report.private_steps)
        for known in (outcome.reports.get(node_id), received.get(node_id)):
            if known is not None and (told := record_decisions(session, job, number, node_id, known.decisions)):
                row.decisions = [*row.decisions, *told]
        if aggregate is not None and node_id in aggregate.rejected:
            _set_state(session, job, number, row, "rejected", aggregate.rejected[node_id])
        elif node_id in received:
            _set_state(session, job, number, row, "done", None)
        elif aggregate is not None and node_id in aggregate.late and node_id not in outcome.lost:
            _set_state(session, job, number, row, "late", "its update had not come by the round's deadline")
        elif node_id in outcome.lost:
            _set_state(session, job, number, row, "lost", outcome.lost[node_id])
        elif node_id in outcome.failed:
            _set_state(session, job, number, row, "failed", outcome.failed[node_id])
        elif node_id in outcome.declined:
            _set_state(session, job, number, row, "declined", outcome.declined[node_id])


def _copy_report(row: RoundNodeRow, report: TrainReport) -> None:
    # A worker's own report arrives twice, by itself and with its update; nulls never overwrite figures.
    row.samples = report.samples if report.samples is not None else row.samples
    row.local_loss = report.loss if report.loss is not None else row.local_loss
    row.local_accuracy = report.accuracy if report.accuracy is not None else row.local_accuracy
    row.train_seconds = report.train_seconds if report.train_seconds is not None else row.train_seconds
    row.bytes_sent = report.bytes_sent if report.bytes_sent is not None else row.bytes_sent
    if report.commitment is not None:
        row.commitment = report.commitment.model_dump()


def _set_state(session: Session, job: TrainingSnapshot, number: int, row: RoundNodeRow, state: str, reason: str | None) -> None:
    if row.state == state:
        return
    row.state, row.reason = state, reason
    if state == "rejected" and reason is not None:
        flag_rejected(session, row, reason)
    if state != "done":
        events.emit(
            session,
            job.cluster_id,
            f"round.worker_{state}",
            {"training_id": job.training_id, "round": number, "node_id": row.node_id, "reason": reason},
            training_id=job.training_id,
        )


def _complete(
    session: Session,
    job: TrainingSnapshot,
    training: TrainingRow,
    row: RoundRow,
    outcome: RoundObservation,
    aggregate: AggregateReport,
) -> None:
    counted = [report for report in aggregate.received if report.node_id in aggregate.accepted]
    row.digest = aggregate.digest
    row.global_loss = progress.weighted_mean([(report.loss, report.samples) for report in counted])
    row.global_accuracy = progress.weighted_mean([(report.accuracy, report.samples) for report in counted])
    row.validation_loss = progress.weighted_mean([(item.loss, item.samples) for item in outcome.evaluations])
    row.validation_accuracy = progress.weighted_mean([(item.accuracy, item.samples) for item in outcome.evaluations])
    row.validation_samples = sum(item.samples for item in outcome.evaluations) or None
    row.validation_source = outcome.evaluated_by
    row.bytes_received = aggregate.bytes_received
    if row.data_path == "star" and job.config["federated"]:
        row.compression_ratio = progress.compression_ratio(
            aggregate.bytes_received, len(aggregate.received), training.parameters
        )
    row.train_seconds = max((report.train_seconds for report in counted if report.train_seconds is not None), default=None)
    row.aggregate_seconds = aggregate.aggregate_seconds
    row.consensus_distance = aggregate.consensus_distance
    row.consensus_seconds = aggregate.consensus_seconds
    row.evaluate_seconds = outcome.evaluate_seconds
    row.late_updates = len(aggregate.late)
    row.notices = list(aggregate.notices)
    row.links = [
        {"from": link.source, "to": link.target, "bytes": link.bytes, "seconds": link.seconds}
        for link in (*aggregate.links, *outcome.links)
    ]
    row.copies = outcome.copies
    for report in counted:
        node = round_node(session, job.training_id, row.number, report.node_id)
        if node.bytes_sent is None:
            node.bytes_sent = sum(link.bytes for link in aggregate.links if link.source == report.node_id)
    row.seconds = session.scalar(
        select(func.extract("epoch", func.clock_timestamp() - RoundRow.started_at)).where(
            RoundRow.training_id == row.training_id, RoundRow.number == row.number
        )
    )
    transitions.move_round(row, "completed")
    training.digest = aggregate.digest
    training.completed_rounds = row.number
    # A training that is being stopped has its reason already.
    if row.number < job.total_rounds and training.status == "training":
        training.stop_reason = _stop_reason(session, training, row)
    events.emit(
        session,
        job.cluster_id,
        "round.completed",
        {
            "training_id": job.training_id,
            "round": row.number,
            "epoch": progress.epoch(row.number, job.config["epochs"], job.config["local_epochs"]),
            "total_epochs": job.config["epochs"],
            "global_loss": row.global_loss,
            "global_accuracy": row.global_accuracy,
            "validation_accuracy": row.validation_accuracy,
            "seconds": float(row.seconds) if row.seconds is not None else None,
            "accepted": aggregate.accepted,
            "rejected": aggregate.rejected,
            "notices": aggregate.notices,
            "workers": {
                report.node_id: {"local_loss": report.loss, "samples": report.samples} for report in aggregate.received
            },
        },
        training_id=job.training_id,
    )


def _stop_reason(session: Session, training: TrainingRow, last: RoundRow) -> dict[str, Any] | None:
    session.flush()
    accuracies = session.scalars(
        select(RoundRow.validation_accuracy)
        .where(RoundRow.training_id == training.id, RoundRow.status == "completed")
        .order_by(RoundRow.number)
    ).all()
    seconds = None if last.seconds is None else float(last.seconds)
    reason = stop_reason(stopping_rules(training.config), accuracies, figures.spent(session, training), seconds)
    return asdict(reason) if reason else None

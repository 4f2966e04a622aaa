"""One round: workers train and push, the aggregator averages and publishes, the new model is evaluated."""

import asyncio
import logging
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.domain import progress
from api.domain.specs import stopping_rules
from api.domain.stopping import stop_reason
from api.services import progress as figures
from api.services.lookup import locked_cluster
from api.store import events, leases, transitions
from api.store.models import NodeRow, RoundNodeRow, RoundRow, TrainingRow
from workers.agent.protocol import (
    AggregateReport,
    AggregateRound,
    Autonomy,
    Evaluate,
    Evaluation,
    Hyperparameters,
    Peer,
    TrainReport,
    TrainRound,
)
from workers.agent_client import AgentClient, AgentError, AgentRefusedError, AgentUnreachableError
from workers.context import Context
from workers.steps import nodes
from workers.steps.job import Job, end
from workers.steps.lease import act
from workers.steps.members import Member, agent_of, peers_of
from workers.steps.preparation import init_request

log = logging.getLogger(__name__)
_POLL_S = 20.0
_FORGOTTEN = ("unknown_training", "unknown_model", "unknown_round")
_RETRY_S = 1.0


@dataclass(slots=True)
class Outcome:
    """What one look at a round has brought. `aggregate` is None while the aggregator cannot be reached."""

    aggregate: AggregateReport | None = None
    reports: dict[str, TrainReport] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    evaluations: list[Evaluation] = field(default_factory=list)
    evaluated_by: str | None = None
    evaluate_seconds: float | None = None


def run(context: Context, job: Job, token: str) -> None:
    """Start the next round, or go on with the one in hand; at most one long poll long."""
    number = job.completed_rounds + 1
    quorum = max(1, math.ceil(context.settings.round_quorum * len(job.planned_workers)))
    if job.aggregator is None:
        if _may_return(context, job.aggregator_id):
            _look_again(context, job, token)
        else:
            end(context, job, token, "failed", _error("aggregator_lost", f"The aggregator {job.aggregator_id} is lost."))
        return
    if len(job.workers) < quorum:
        detail = f"{len(job.workers)} of {len(job.planned_workers)} workers are left; the quorum is {quorum}."
        end(context, job, token, "failed", _error("quorum_lost", detail))
        return
    _open_round(context, job, token, number)
    aggregator = job.aggregator
    outcome = act(context, TrainingRow, job.training_id, token, lambda: _look(context, job, aggregator, number, quorum))
    for node_id, reason in outcome.lost.items():
        nodes.mark_lost(context, node_id, reason)
    if outcome.aggregate is None:
        nodes.mark_lost(context, aggregator.node_id, "its agent stopped answering")
        _look_again(context, job, token)
    elif outcome.aggregate.state == "failed":
        problem = outcome.aggregate.problem
        _record(context, job, token, number, outcome)
        error = _error(problem.code, problem.message) if problem else _error("round_failed", "The aggregator gave no reason.")
        end(context, job, token, "failed", error)
    else:
        _record(context, job, token, number, outcome)


def _error(code: str, detail: str) -> dict[str, Any]:
    return {"code": code, "detail": detail}


def _may_return(context: Context, node_id: str) -> bool:
    """A lost node whose sandbox is still there may be brought back by its own step."""
    with context.database.unit_of_work() as uow:
        node = uow.session.execute(select(NodeRow).where(NodeRow.id == node_id)).scalar_one()
        return node.status == "running" or (node.status == "lost" and node.ended_at is None and node.due_at is not None)


def _look_again(context: Context, job: Job, token: str) -> None:
    with context.database.unit_of_work() as uow:
        leases.release(leases.held(uow.session, TrainingRow, job.training_id, token), _RETRY_S)


def _open_round(context: Context, job: Job, token: str, number: int) -> None:
    with context.database.unit_of_work() as uow:
        session = uow.session
        locked_cluster(session, job.cluster_id)
        leases.held(session, TrainingRow, job.training_id, token)
        row = session.get(RoundRow, (job.training_id, number))
        if row is None:
            row = RoundRow(training_id=job.training_id, number=number, status="running", base_digest=job.digest or "")
            session.add(row)
        elif row.status == "running":
            return
        else:
            transitions.move_round(row, "running")
            row.started_at = func.clock_timestamp()
            row.error = None
        session.flush()
        for member in job.workers:
            _round_node(session, job.training_id, number, member.node_id)
        events.emit(
            session,
            job.cluster_id,
            "round.started",
            {"training_id": job.training_id, "round": number, "workers": [member.node_id for member in job.workers]},
            training_id=job.training_id,
        )


def _round_node(session: Session, training_id: str, number: int, node_id: str) -> RoundNodeRow:
    row = session.get(RoundNodeRow, (training_id, number, node_id))
    if row is None:
        row = RoundNodeRow(training_id=training_id, number=number, node_id=node_id, state="training", decisions=[])
        session.add(row)
    return row


async def _look(context: Context, job: Job, aggregator: Member, number: int, quorum: int) -> Outcome:
    """Post the round (again: agents answer a second post with the first one's report), wait for news, evaluate if done."""
    outcome = Outcome()
    peers = await peers_of(context, [*job.workers, aggregator])
    for member in job.workers:
        if member.node_id not in peers:
            outcome.lost[member.node_id] = "its sandbox no longer exists at the provider"
    workers = [member for member in job.workers if member.node_id in peers]
    if aggregator.node_id not in peers:
        return outcome
    try:
        async with agent_of(context, aggregator) as agent:
            await _collect(context, job, agent, workers, peers, number, quorum, outcome)
    except AgentUnreachableError as error:
        log.warning("%s: %s", job.training_id, error)
        outcome.aggregate = None
        return outcome
    if outcome.aggregate is not None and outcome.aggregate.state == "done":
        await _evaluate(context, job, peers[aggregator.node_id], workers, outcome)
    return outcome


async def _collect(
    context: Context,
    job: Job,
    aggregator: AgentClient,
    workers: Sequence[Member],
    peers: dict[str, Peer],
    number: int,
    quorum: int,
    outcome: Outcome,
) -> None:
    request = AggregateRound(
        training_id=job.training_id,
        round=number,
        model=job.model_spec,
        base_digest=job.digest or "",
        workers=[peers[member.node_id] for member in workers],
        self_peer=peers[job.aggregator_id],
        dataset=job.config["dataset"],
        quorum=quorum,
        strategy=job.config["strategy"],
        consensus=job.cluster_config["consensus"],
        deadline_s=context.settings.round_deadline_s,
        compression=job.compression,
        freeze_layers=job.config["freeze_layers"],
    )
    outcome.aggregate = await _begin(context, job, aggregator, request)
    end = time.monotonic() + _POLL_S
    looks = {
        asyncio.create_task(_work(context, job, member, peers, number, end, outcome)): member.node_id for member in workers
    }
    try:
        while outcome.aggregate.state == "collecting" and (left := end - time.monotonic()) > 0:
            poll = asyncio.create_task(aggregator.aggregate_report(job.training_id, number, left))
            watched = {task for task in looks if not task.done()} | {poll}
            await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
            gone = [node_id for node_id in {**outcome.lost, **outcome.failed} if node_id in peers]
            if poll.done():
                outcome.aggregate = poll.result()
            else:
                poll.cancel()
                await asyncio.gather(poll, return_exceptions=True)
            waiting = [node_id for node_id in gone if node_id not in {report.node_id for report in outcome.aggregate.received}]
            if waiting and outcome.aggregate.state == "collecting":
                outcome.aggregate = await aggregator.drop(job.training_id, number, waiting)
                for node_id in waiting:
                    peers.pop(node_id, None)
    finally:
        for task in looks:
            task.cancel()
        await asyncio.gather(*looks, return_exceptions=True)


async def _begin(context: Context, job: Job, aggregator: AgentClient, request: AggregateRound) -> AggregateReport:
    try:
        return await aggregator.aggregate(request)
    except AgentRefusedError as error:
        if error.code not in _FORGOTTEN:
            raise
    # Its agent was restarted since: give it back what it needs.
    await aggregator.init_training(await init_request(context, job, job.labels))
    return await aggregator.aggregate(request)


async def _work(
    context: Context, job: Job, member: Member, peers: dict[str, Peer], number: int, end: float, outcome: Outcome
) -> None:
    """Start one worker's round and follow it to its end; a worker that cannot be reached goes to `outcome.lost`."""
    config = job.config
    request = TrainRound(
        training_id=job.training_id,
        round=number,
        model=job.model_spec,
        base_digest=job.digest or "",
        dataset=config["dataset"],
        hyperparameters=Hyperparameters(
            local_epochs=progress.epochs_of_round(number, config["epochs"], config["local_epochs"]),
            batch_size=config["batch_size"],
            learning_rate=progress.learning_rate(config["learning_rate"], number, job.total_rounds, config["schedule"]),
            optimizer=config["optimizer"],
            weight_decay=config["weight_decay"],
            seed=config["seed"],
            mixed_precision=config["mixed_precision"],
            freeze_layers=config["freeze_layers"],
        ),
        compression=job.compression,
        aggregator=peers[job.aggregator_id],
        consensus=job.cluster_config["consensus"],
        autonomy=Autonomy(enabled=job.cluster_config["daa_enabled"], level=member.autonomy),
    )
    try:
        async with agent_of(context, member) as agent:
            report = await agent.train(request)
            outcome.reports[member.node_id] = report
            while report.state == "running" and (left := end - time.monotonic()) > 0:
                report = await _follow(agent, request, left)
                outcome.reports[member.node_id] = report
    except AgentUnreachableError as error:
        log.warning("%s: %s", job.training_id, error)
        outcome.lost[member.node_id] = "its agent stopped answering"
    except AgentRefusedError as error:
        outcome.failed[member.node_id] = f"{error.message} ({error.code})"
    else:
        if report.state == "failed":
            problem = report.problem
            outcome.failed[member.node_id] = f"{problem.message} ({problem.code})" if problem else "no reason given"


async def _follow(agent: AgentClient, request: TrainRound, wait_s: float) -> TrainReport:
    try:
        return await agent.train_report(request.training_id, request.round, wait_s)
    except AgentRefusedError as error:
        if error.code not in _FORGOTTEN:
            raise
    return await agent.train(request)


async def _evaluate(context: Context, job: Job, source: Peer, workers: Sequence[Member], outcome: Outcome) -> None:
    """Measure the new global model on data that no worker trained on: the aggregator's validation file and the validators'
    data where there is any, else the workers' held-out splits."""
    aggregate = outcome.aggregate
    if aggregate is None or aggregate.digest is None:
        return
    started = time.monotonic()
    found = [aggregate.validation] if aggregate.validation else []
    found += await _evaluations(
        context, job, source, job.validators, aggregate.digest, job.config["validation"], held_out=False
    )
    if found:
        outcome.evaluated_by = "validation_data"
    else:
        present = [member for member in workers if member.node_id not in outcome.lost]
        found = await _evaluations(context, job, source, present, aggregate.digest, job.config["dataset"], held_out=True)
        outcome.evaluated_by = "held_out_splits" if found else None
    outcome.evaluations = found
    outcome.evaluate_seconds = time.monotonic() - started


async def _evaluations(
    context: Context, job: Job, source: Peer, members: Sequence[Member], digest: str, dataset: str, *, held_out: bool
) -> list[Evaluation]:
    request = Evaluate(
        training_id=job.training_id,
        model=job.model_spec,
        digest=digest,
        source=source,
        dataset=dataset,
        held_out=held_out,
    )

    async def one(member: Member) -> Evaluation | None:
        try:
            async with agent_of(context, member) as agent:
                return await agent.evaluate(request)
        except AgentError as error:
            log.warning("%s: no evaluation: %s", job.training_id, error)
            return None

    return [found for found in await asyncio.gather(*map(one, members)) if found is not None]


def _record(context: Context, job: Job, token: str, number: int, outcome: Outcome) -> None:
    """Write down what was measured, and go on: with the next round, or with waiting for this one."""
    with context.database.unit_of_work() as uow:
        session = uow.session
        locked_cluster(session, job.cluster_id)
        training = leases.held(session, TrainingRow, job.training_id, token)
        row = session.execute(
            select(RoundRow).where(RoundRow.training_id == job.training_id, RoundRow.number == number)
        ).scalar_one()
        _record_nodes(session, job, number, outcome)
        aggregate = outcome.aggregate
        if aggregate is not None and aggregate.state == "done" and training.status in ("training", "stopping"):
            _complete(session, job, training, row, outcome, aggregate)
        leases.release(training, 0)
        uow.ring("trainings.advance", training.id)


def _record_nodes(session: Session, job: Job, number: int, outcome: Outcome) -> None:
    aggregate = outcome.aggregate
    received = {report.node_id: report for report in aggregate.received} if aggregate else {}
    for node_id in {*outcome.reports, *received, *outcome.lost, *outcome.failed}:
        row = _round_node(session, job.training_id, number, node_id)
        report = received.get(node_id) or outcome.reports.get(node_id)
        if report is not None:
            _copy_report(row, report)
        if aggregate is not None and node_id in aggregate.rejected:
            _set_state(session, job, number, row, "rejected", aggregate.rejected[node_id])
        elif node_id in received:
            _set_state(session, job, number, row, "done", None)
        elif node_id in outcome.lost:
            _set_state(session, job, number, row, "lost", outcome.lost[node_id])
        elif node_id in outcome.failed:
            _set_state(session, job, number, row, "failed", outcome.failed[node_id])


def _copy_report(row: RoundNodeRow, report: TrainReport) -> None:
    # A worker's own report arrives twice, by itself and with its update; nulls never overwrite figures.
    row.samples = report.samples if report.samples is not None else row.samples
    row.local_loss = report.loss if report.loss is not None else row.local_loss
    row.local_accuracy = report.accuracy if report.accuracy is not None else row.local_accuracy
    row.train_seconds = report.train_seconds if report.train_seconds is not None else row.train_seconds
    row.bytes_sent = report.bytes_sent if report.bytes_sent is not None else row.bytes_sent
    if report.commitment is not None:
        row.commitment = report.commitment.model_dump()
    if report.decisions:
        row.decisions = [decision.model_dump() for decision in report.decisions]


def _set_state(session: Session, job: Job, number: int, row: RoundNodeRow, state: str, reason: str | None) -> None:
    if row.state == state:
        return
    row.state, row.reason = state, reason
    if state != "done":
        events.emit(
            session,
            job.cluster_id,
            f"round.worker_{state}",
            {"training_id": job.training_id, "round": number, "node_id": row.node_id, "reason": reason},
            training_id=job.training_id,
        )


def _complete(
    session: Session, job: Job, training: TrainingRow, row: RoundRow, outcome: Outcome, aggregate: AggregateReport
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
    row.compression_ratio = progress.compression_ratio(aggregate.bytes_received, len(aggregate.received), training.parameters)
    row.train_seconds = max((report.train_seconds for report in counted if report.train_seconds is not None), default=None)
    row.aggregate_seconds = aggregate.aggregate_seconds
    row.consensus_seconds = aggregate.consensus_seconds
    row.evaluate_seconds = outcome.evaluate_seconds
    row.votes = [vote.model_dump() for vote in aggregate.votes]
    row.seconds = session.scalar(
        select(func.extract("epoch", func.clock_timestamp() - RoundRow.started_at)).where(
            RoundRow.training_id == row.training_id, RoundRow.number == row.number
        )
    )
    transitions.move_round(row, "completed")
    training.digest = aggregate.digest
    training.completed_rounds = row.number
    if row.number < job.total_rounds:
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

"""One round: workers train and push, the aggregator averages and publishes, the new model is evaluated.

Anything may die at any moment, and no round is lost or counted twice:

- The aggregator's agent dies: it is started again, finds the round's base on its disk, and collects anew. Workers that are
  done send their updates again without training (`TrainRound.resend`).
- The aggregator's sandbox is gone: its node gets a new one (`steps.nodes`), which pulls the round's base from a worker. A base
  of before the first round is made anew: the same seed gives the same weights.
- Round n is published and not yet recorded: the aggregator answers the same report again, and it is recorded then. If the
  aggregator is lost before that, the round is repeated from its base, which workers keep until they have the model after the
  next one (`Worker.need`).
- Round n is recorded only once at least one worker holds its model, so that what `epoch` counts can always be gone on from.
- An exchange over the workers breaks (mesh, ring, hierarchical): the aggregator gives it up for the star in the same round and
  asks every worker for its own update.
- A worker stops answering: the round waits for as long as its node's step says that it may come back, then goes on without it.
"""

import asyncio
import logging
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.domain import progress, sampling, strategies, topology
from api.domain.specs import stopping_rules
from api.domain.stopping import stop_reason
from api.services import progress as figures
from api.services.lookup import locked_cluster
from api.store import events, leases, transitions
from api.store.models import RoundNodeRow, RoundRow, TrainingRow
from workers.agent.protocol import (
    AggregateReport,
    AggregateRound,
    Autonomy,
    DataPath,
    Evaluate,
    Evaluation,
    Hyperparameters,
    Keep,
    Link,
    Peer,
    TrainReport,
    TrainRound,
)
from workers.agent_client import AgentClient, AgentError, AgentRefusedError, AgentUnreachableError
from workers.context import Context
from workers.steps import nodes
from workers.steps.job import Job, end, look_again
from workers.steps.lease import act
from workers.steps.members import Member, agent_of, peers_of
from workers.steps.preparation import init_request

log = logging.getLogger(__name__)
_POLL_S = 20.0
_FORGOTTEN = ("unknown_training", "unknown_model", "unknown_round")
# While a node is away, its return or its end must be noticed soon.
_POLL_WHILE_AWAY_S = 2.0
# Failures of the way between two agents, not of what they do: tried again a few times before the worker is left out.
_OF_THE_WAY = ("push_failed", "pull_failed")
_PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0)
_REFUSALS = 5
_OUT = ("failed", "not_sampled")


@dataclass(slots=True)
class Outcome:
    """What one look at a round has brought. `aggregate` is None while the aggregator cannot be reached; `silent` are workers
    that did not answer, `lost` those that will not come back; `copies` are the workers that hold the new model, `links` what
    they took to have it."""

    aggregate: AggregateReport | None = None
    reports: dict[str, TrainReport] = field(default_factory=dict)
    silent: dict[str, str] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    copies: list[str] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    evaluations: list[Evaluation] = field(default_factory=list)
    evaluated_by: str | None = None
    evaluate_seconds: float | None = None


def run(context: Context, job: Job, token: str) -> None:
    """Start the next round, or go on with the one in hand; at most one long poll long."""
    number = job.completed_rounds + 1
    quorum = _quorum(context, job)
    if job.aggregator is None and not job.aggregator_returns:
        end(context, job, token, "failed", _error("aggregator_lost", f"The aggregator {job.aggregator_id} is lost."))
        return
    if len(job.workers) + len(job.returning) < quorum:
        detail = f"{len(job.workers)} of {len(job.planned_workers)} workers are left; a round needs {quorum}."
        end(context, job, token, "failed", _error("quorum_lost", detail))
        return
    aggregator = job.aggregator
    if aggregator is None or not job.workers:
        look_again(context, job, token)
        return
    states, kind = _open_round(context, job, token, number)
    present = replace(
        job,
        workers=tuple(member for member in job.workers if states.get(member.node_id) not in _OUT),
        returning=tuple(member for member in job.returning if states.get(member.node_id) not in _OUT),
    )
    here = {member.node_id for member in (*present.workers, *present.returning)}
    gone = [node_id for node_id, state in states.items() if state == "training" and node_id not in here]
    try:
        outcome = act(
            context,
            TrainingRow,
            job.training_id,
            token,
            lambda: _look(context, present, aggregator, number, quorum, kind, gone),
        )
    except AgentRefusedError as refusal:
        if job.attempts < _REFUSALS or job.returning:
            raise
        end(context, job, token, "failed", _error(refusal.code, f"{aggregator.node_id}: {refusal.message}"))
        return
    for node_id, reason in outcome.silent.items():
        nodes.mark_lost(context, node_id, reason)
    if outcome.aggregate is None:
        nodes.mark_lost(context, aggregator.node_id, "its agent stopped answering")
        look_again(context, job, token)
    elif outcome.aggregate.state == "done" and not outcome.copies:
        log.warning("%s: no worker has a copy of round %d yet", job.training_id, number)
        look_again(context, job, token)
    elif outcome.aggregate.state == "failed":
        problem = outcome.aggregate.problem
        _record(context, job, token, number, outcome)
        error = _error(problem.code, problem.message) if problem else _error("round_failed", "The aggregator gave no reason.")
        end(context, job, token, "failed", error)
    else:
        _record(context, job, token, number, outcome)


def _quorum(context: Context, job: Job) -> int:
    """The fewest updates that make a round: a share of those drawn, and what the strategy needs."""
    share = job.config["quorum"] or context.settings.round_quorum
    least = strategies.least_updates(job.config["strategy"], job.strategy_spec.model_dump(exclude={"name"}, exclude_none=True))
    return max(1, least, math.ceil(share * job.drawn_per_round))


def _error(code: str, detail: str) -> dict[str, Any]:
    return {"code": code, "detail": detail}


def _open_round(context: Context, job: Job, token: str, number: int) -> tuple[dict[str, str], str]:
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
        members = [member.node_id for member in (*job.workers, *job.returning)]
        drawn = sampling.draw(members, job.drawn_per_round, job.config["seed"], number)
        for node_id in members:
            node = _round_node(session, job.training_id, number, node_id)
            node.state, node.reason = "training" if node_id in drawn else "not_sampled", None
        partial = not job.compression.is_none or job.config["freeze_layers"] > 0
        kind, reason = topology.data_path(
            job.topology, len(drawn), job.cluster_config["consensus"], job.config["strategy"], partial=partial
        )
        if kind != "star" and any(member.node_id in drawn for member in job.returning):
            kind, reason = "star", "one of the workers is not back yet"
        row.data_path, row.data_path_reason = kind, reason
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


def _round_node(session: Session, training_id: str, number: int, node_id: str) -> RoundNodeRow:
    row = session.get(RoundNodeRow, (training_id, number, node_id))
    if row is None:
        row = RoundNodeRow(training_id=training_id, number=number, node_id=node_id, state="training", decisions=[])
        session.add(row)
    return row


async def _look(
    context: Context, job: Job, aggregator: Member, number: int, quorum: int, kind: str, gone: Sequence[str]
) -> Outcome:
    """Post the round (again: agents answer a second post with the first one's report), wait for news, evaluate if done."""
    outcome = Outcome()
    peers = await peers_of(context, [*job.workers, *job.returning, aggregator])
    for member in job.workers:
        if member.node_id not in peers:
            outcome.silent[member.node_id] = "its sandbox cannot be reached"
    workers = [member for member in job.workers if member.node_id in peers]
    if aggregator.node_id not in peers:
        return outcome
    try:
        async with agent_of(context, aggregator) as agent:
            await _collect(context, job, agent, workers, peers, number, quorum, kind, gone, outcome)
    except AgentUnreachableError as error:
        log.warning("%s: %s", job.training_id, error)
        outcome.aggregate = None
        return outcome
    if outcome.aggregate is not None and outcome.aggregate.state == "done":
        await _keep(context, job, peers, kind, workers, outcome)
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
    kind: str,
    gone: Sequence[str],
    outcome: Outcome,
) -> None:
    deadline_s = job.config["round_deadline_s"] or context.settings.round_deadline_s
    path = _data_path(kind, _in_order(job, peers), deadline_s)
    request = AggregateRound(
        training_id=job.training_id,
        round=number,
        model=job.model_spec,
        base_digest=job.digest or "",
        workers=[peers[member.node_id] for member in (*workers, *job.returning) if member.node_id in peers],
        self_peer=peers[job.aggregator_id],
        dataset=job.config["dataset"],
        quorum=quorum,
        strategy=job.strategy_spec,
        consensus=job.cluster_config["consensus"],
        deadline_s=deadline_s,
        path=path,
        compression=job.compression,
        freeze_layers=job.config["freeze_layers"],
    )
    outcome.aggregate = await _begin(context, job, aggregator, request)
    if gone and outcome.aggregate.state == "collecting":
        outcome.aggregate = await aggregator.drop(job.training_id, number, list(gone))
    outcome.lost = dict.fromkeys(gone, "its sandbox no longer exists")
    end = time.monotonic() + (_POLL_WHILE_AWAY_S if job.returning else _POLL_S)
    looks = [asyncio.create_task(_work(context, job, member, peers, number, path, end, outcome)) for member in workers]
    try:
        while outcome.aggregate.state == "collecting" and not outcome.silent and (left := end - time.monotonic()) > 0:
            poll = asyncio.create_task(aggregator.aggregate_report(job.training_id, number, left))
            watched = {task for task in looks if not task.done()} | {poll}
            await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
            if poll.done():
                outcome.aggregate = poll.result()
            else:
                poll.cancel()
                await asyncio.gather(poll, return_exceptions=True)
            arrived = {report.node_id for report in outcome.aggregate.received}
            waiting = [node_id for node_id in outcome.failed if node_id in peers and node_id not in arrived]
            if waiting and outcome.aggregate.state == "collecting":
                outcome.aggregate = await aggregator.drop(job.training_id, number, waiting)
                for node_id in waiting:
                    peers.pop(node_id, None)
    finally:
        for task in looks:
            task.cancel()
        await asyncio.gather(*looks, return_exceptions=True)


def _in_order(job: Job, peers: dict[str, Peer]) -> list[Peer]:
    """The round's workers in an order that no look at the round changes: a ring depends on it."""
    members = {member.node_id for member in (*job.workers, *job.returning)}
    return [peers[node_id] for node_id in job.planned_workers if node_id in members and node_id in peers]


def _data_path(kind: str, peers: list[Peer], wait_s: float) -> DataPath | None:
    if kind == "star":
        return None
    groups = topology.groups([peer.node_id for peer in peers]) if kind == "hierarchical" else []
    return DataPath(kind=kind, peers=peers, groups=groups, wait_s=wait_s)


async def _begin(context: Context, job: Job, aggregator: AgentClient, request: AggregateRound) -> AggregateReport:
    try:
        return await aggregator.aggregate(request)
    except AgentRefusedError as error:
        if error.code not in _FORGOTTEN:
            raise
    # Its agent was restarted since: give it back what it needs.
    ready = await aggregator.init_training(await init_request(context, job, job.labels))
    if ready.digest != request.base_digest:
        raise AgentRefusedError("other_model", "its first model is not the one that this training began with")
    # What workers have sent or told it is gone; they are asked for their updates once more.
    return await aggregator.aggregate(request.model_copy(update={"fallback": "the aggregator's agent was restarted"}))


async def _work(
    context: Context,
    job: Job,
    member: Member,
    peers: dict[str, Peer],
    number: int,
    path: DataPath | None,
    end: float,
    outcome: Outcome,
) -> None:
    """Start one worker's round and follow it to its end; a worker that cannot be reached goes to `outcome.silent`."""
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
            proximal_mu=config["proximal_mu"] or 0.0,
            keep_moments=config["strategy"] == "diloco",
            mixed_precision=config["mixed_precision"],
            freeze_layers=config["freeze_layers"],
        ),
        compression=job.compression,
        aggregator=peers[job.aggregator_id],
        consensus=job.cluster_config["consensus"],
        autonomy=Autonomy(enabled=job.cluster_config["daa_enabled"], level=member.autonomy),
        path=path,
    )
    try:
        async with agent_of(context, member) as agent:
            report = await agent.train(request)
            if report.state == "done" and _is_missing(outcome.aggregate, member.node_id):
                report = await agent.train(request.model_copy(update={"resend": True}))
            pauses = iter(_PAUSES_S)
            outcome.reports[member.node_id] = report
            while (left := end - time.monotonic()) > 0:
                if report.state == "running":
                    report = await _follow(agent, request, left)
                elif _of_the_way(report) and (pause := next(pauses, None)) is not None:
                    await asyncio.sleep(min(pause, left))
                    report = await agent.train(request)
                else:
                    break
                outcome.reports[member.node_id] = report
            if _of_the_way(report) and next(pauses, None) is not None:
                return
    except AgentUnreachableError as error:
        log.warning("%s: %s", job.training_id, error)
        outcome.silent[member.node_id] = "its agent stopped answering"
    except AgentRefusedError as error:
        outcome.failed[member.node_id] = f"{error.message} ({error.code})"
    else:
        if report.state == "failed":
            problem = report.problem
            outcome.failed[member.node_id] = f"{problem.message} ({problem.code})" if problem else "no reason given"


def _is_missing(aggregate: AggregateReport | None, node_id: str) -> bool:
    """Whether the aggregator still waits for an update that its worker believes to have sent."""
    return (
        aggregate is not None
        and aggregate.state == "collecting"
        and node_id not in {*(report.node_id for report in aggregate.received), *aggregate.rejected}
    )


def _of_the_way(report: TrainReport) -> bool:
    return report.state == "failed" and report.problem is not None and report.problem.code in _OF_THE_WAY


async def _follow(agent: AgentClient, request: TrainRound, wait_s: float) -> TrainReport:
    try:
        return await agent.train_report(request.training_id, request.round, wait_s)
    except AgentRefusedError as error:
        if error.code not in _FORGOTTEN:
            raise
    return await agent.train(request)


async def _keep(
    context: Context, job: Job, peers: dict[str, Peer], kind: str, workers: Sequence[Member], outcome: Outcome
) -> None:
    """Have every worker pull the new model, which it needs for the next round anyhow, in a hierarchy from its head."""
    digest = outcome.aggregate.digest if outcome.aggregate else None
    request = Keep(training_id=job.training_id, digest=digest or "", source=peers[job.aggregator_id])
    path = _data_path(kind, _in_order(job, peers), 0)
    heads = {node_id: group[0] for group in path.groups for node_id in group[1:]} if path else {}
    present = [member for member in workers if member.node_id not in outcome.silent]

    async def one(member: Member) -> None:
        head = peers.get(heads.get(member.node_id, ""))
        try:
            async with agent_of(context, member) as agent:
                kept = await agent.keep(request.model_copy(update={"head": head}))
        except AgentError as error:
            log.warning("%s: no copy: %s", job.training_id, error)
        else:
            outcome.copies.append(kept.node_id)
            outcome.links += kept.links

    await asyncio.gather(*map(one, present))
    outcome.copies.sort()


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
        # A late worker still trains: it would answer only when it has finished.
        punctual = {report.node_id for report in aggregate.received}
        present = [member for member in workers if member.node_id in punctual & set(outcome.copies)]
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
        if aggregate is not None and aggregate.fallback is not None and row.fallback is None:
            row.fallback = aggregate.fallback
            events.emit(
                session,
                job.cluster_id,
                "round.fallback",
                {"training_id": job.training_id, "round": number, "data_path": row.data_path, "reason": row.fallback},
                training_id=job.training_id,
            )
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
        elif aggregate is not None and node_id in aggregate.late and node_id not in outcome.lost:
            _set_state(session, job, number, row, "late", "its update had not come by the round's deadline")
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
    if row.data_path == "star":
        row.compression_ratio = progress.compression_ratio(
            aggregate.bytes_received, len(aggregate.received), training.parameters
        )
    row.train_seconds = max((report.train_seconds for report in counted if report.train_seconds is not None), default=None)
    row.aggregate_seconds = aggregate.aggregate_seconds
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
        node = _round_node(session, job.training_id, row.number, report.node_id)
        if node.bytes_sent is None:
            node.bytes_sent = sum(link.bytes for link in aggregate.links if link.source == report.node_id)
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

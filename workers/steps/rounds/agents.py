"""A round as its agents see it: posted, followed, and answered for."""

import asyncio
import logging
import time
from collections.abc import Sequence
from functools import partial

from api.domain import progress
from workers.agent.peers.tokens import with_tokens
from workers.agent.protocol.aggregation import AggregateReport, AggregateRound
from workers.agent.protocol.common import Autonomy, Peer
from workers.agent.protocol.exchange import DataPath
from workers.agent.protocol.training import Hyperparameters, TrainReport, TrainRound
from workers.agent_client import AgentClient, AgentRefusedError, AgentUnreachableError, ClusterKeys
from workers.context import Context
from workers.steps.rounds.observation import RoundObservation, data_path, in_order
from workers.steps.rounds.preparation import init_request
from workers.steps.rounds.privacy import plan_of
from workers.steps.rounds.publish import evaluate, replicate_model
from workers.steps.shared.node_snapshot import NodeSnapshot, agent_of, peers_of
from workers.steps.shared.training_snapshot import TrainingSnapshot

log = logging.getLogger(__name__)
_POLL_S = 20.0
# While a node is away, its return or its end must be noticed soon.
_POLL_WHILE_AWAY_S = 2.0
_FORGOTTEN = ("unknown_training", "unknown_model", "unknown_round")
# Failures of the way between two agents, not of what they do: tried again a few times before the worker is left out.
_OF_THE_WAY = ("push_failed", "pull_failed")
_UNTOLD_S = 0.5
_PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0)


async def poll_round(
    context: Context,
    job: TrainingSnapshot,
    aggregator: NodeSnapshot,
    number: int,
    quorum: int,
    kind: str,
    gone: Sequence[str],
    out: Sequence[str],
) -> RoundObservation:
    """Post the round (again: agents answer a second post with the first one's report), wait for news, evaluate if done.

    `gone` are workers whose sandboxes are lost, `out` those that failed or declined in an earlier look.
    """
    outcome = RoundObservation()
    peers = await peers_of(context, [*job.workers, *job.recovering, aggregator])
    for member in job.workers:
        if member.node_id not in peers:
            outcome.unreachable[member.node_id] = "its sandbox cannot be reached"
    workers = [member for member in job.workers if member.node_id in peers]
    if aggregator.node_id not in peers:
        return outcome
    try:
        async with agent_of(context, aggregator) as agent:
            await _collect(context, job, agent, workers, peers, number, quorum, kind, gone, out, outcome)
    except AgentUnreachableError as error:
        log.warning("%s: %s", job.training_id, error)
        outcome.aggregate = None
        return outcome
    if outcome.aggregate is not None and outcome.aggregate.state == "done":
        await replicate_model(context, job, peers, kind, workers, outcome)
        await evaluate(context, job, peers[aggregator.node_id], workers, outcome)
    return outcome


async def _collect(
    context: Context,
    job: TrainingSnapshot,
    aggregator: AgentClient,
    workers: Sequence[NodeSnapshot],
    peers: dict[str, Peer],
    number: int,
    quorum: int,
    kind: str,
    gone: Sequence[str],
    out: Sequence[str],
    outcome: RoundObservation,
) -> None:
    deadline_s = job.config["round_deadline_s"] or context.settings.round_deadline_s
    path = data_path(job, number, kind, in_order(job, peers), deadline_s)
    known = [member for member in (*workers, *job.recovering) if member.node_id in peers]
    request = AggregateRound(
        training_id=job.training_id,
        round=number,
        model=job.model_spec,
        base_digest=job.digest or "",
        workers=[peers[member.node_id] for member in known],
        self_peer=peers[job.aggregator_id],
        dataset=job.config["dataset"],
        quorum=quorum,
        strategy=job.strategy_spec,
        consensus=job.cluster_config["consensus"],
        deadline_s=deadline_s,
        hyperparameters=_hyperparameters(job, number),
        path=path,
        compression=job.compression,
        freeze_layers=job.config["freeze_layers"],
        secure_aggregation=job.config["secure_aggregation"],
        synchronous=None if job.config["federated"] else _hyperparameters(job, number),
        introductions={} if job.config["federated"] else _introductions(context, known, peers),
    )
    outcome.aggregate = await _begin(context, job, aggregator, request)
    if (gone or out) and outcome.aggregate.state == "collecting":
        outcome.aggregate = await aggregator.drop(job.training_id, number, [*gone, *out])
    outcome.lost = dict.fromkeys(gone, "its sandbox no longer exists")
    end = time.monotonic() + (_POLL_WHILE_AWAY_S if job.recovering else _POLL_S)
    if job.config["federated"]:
        looks = [asyncio.create_task(_work(context, job, member, peers, number, path, end, outcome)) for member in workers]
    else:
        looks = [asyncio.create_task(_watch(context, job, member, number, end, outcome)) for member in workers]
    try:
        while outcome.aggregate.state == "collecting" and not outcome.unreachable and (wait_s := end - time.monotonic()) > 0:
            poll = asyncio.create_task(aggregator.aggregate_report(job.training_id, number, wait_s))
            watched = {task for task in looks if not task.done()} | {poll}
            await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
            if poll.done():
                outcome.aggregate = poll.result()
            else:
                poll.cancel()
                await asyncio.gather(poll, return_exceptions=True)
            arrived = {report.node_id for report in outcome.aggregate.received}
            left = (*outcome.failed, *outcome.declined)
            waiting = [node_id for node_id in left if node_id in peers and node_id not in arrived]
            if waiting and outcome.aggregate.state == "collecting":
                outcome.aggregate = await aggregator.drop(job.training_id, number, waiting)
                for node_id in waiting:
                    peers.pop(node_id, None)
    finally:
        for task in looks:
            task.cancel()
        await asyncio.gather(*looks, return_exceptions=True)


async def _begin(context: Context, job: TrainingSnapshot, aggregator: AgentClient, request: AggregateRound) -> AggregateReport:
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


def _introductions(context: Context, workers: Sequence[NodeSnapshot], peers: dict[str, Peer]) -> dict[str, list[Peer]]:
    """To each worker, all workers with its own passes at them."""
    known = [peers[member.node_id] for member in workers]
    found = {}
    for member in workers:
        keys = ClusterKeys(context.settings.secret_key, member.cluster_id)
        found[member.node_id] = with_tokens(known, partial(keys.token_at, caller=member.caller))
    return found


def _hyperparameters(job: TrainingSnapshot, number: int) -> Hyperparameters:
    config = job.config
    return Hyperparameters(
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
        hold_out=config["hold_out"],
    )


async def _work(
    context: Context,
    job: TrainingSnapshot,
    member: NodeSnapshot,
    peers: dict[str, Peer],
    number: int,
    path: DataPath | None,
    end: float,
    outcome: RoundObservation,
) -> None:
    """Start one worker's round and follow it to its end; a worker that cannot be reached goes to `outcome.silent`."""
    request = TrainRound(
        training_id=job.training_id,
        round=number,
        model=job.model_spec,
        base_digest=job.digest or "",
        dataset=job.config["dataset"],
        hyperparameters=_hyperparameters(job, number).model_copy(update={"privacy": plan_of(job, member.node_id, number)}),
        compression=job.compression,
        secure_aggregation=job.config["secure_aggregation"],
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
        outcome.unreachable[member.node_id] = "its agent stopped answering"
    except AgentRefusedError as error:
        outcome.failed[member.node_id] = f"{error.message} ({error.code})"
    else:
        problem = report.problem
        if report.state == "failed":
            outcome.failed[member.node_id] = f"{problem.message} ({problem.code})" if problem else "no reason given"
        elif report.state == "declined":
            outcome.declined[member.node_id] = problem.message if problem else "no reason given"


async def _watch(
    context: Context, job: TrainingSnapshot, member: NodeSnapshot, number: int, end: float, outcome: RoundObservation
) -> None:
    """Follow a worker of a synchronous round, which the aggregator leads; one that was not told of it yet is asked again."""
    try:
        async with agent_of(context, member) as agent:
            while (left := end - time.monotonic()) > 0:
                try:
                    report = await agent.train_report(job.training_id, number, left)
                except AgentRefusedError as error:
                    if error.code not in _FORGOTTEN:
                        raise
                    await asyncio.sleep(min(_UNTOLD_S, left))
                    continue
                outcome.reports[member.node_id] = report
                if report.state != "running":
                    return
    except AgentUnreachableError as error:
        log.warning("%s: %s", job.training_id, error)
        outcome.unreachable[member.node_id] = "its agent stopped answering"
    except AgentRefusedError as error:
        log.warning("%s: %s: %s", job.training_id, member.node_id, error)


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

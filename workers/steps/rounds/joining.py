"""Between two rounds, workers that were deployed and connected since join the training.

A joiner's data is checked as at the beginning. It gets the newest global model before it counts as
a worker. So under `raft` a majority of the workers still holds the last committed model. A joiner
that dies, or does not fit, changes nothing: the round begins without it, and a red flag says why.
Its next check waits ten times as long as the last one took.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.domain.events import EventType
from api.domain.late_joiners import JoinRecord, outside_flag, refusal_flag
from api.domain.privacy import PrivacyPlan
from api.domain.red_flags import JOIN_FLAGS, Flag
from api.domain.steps import Step
from api.services.lookup import locked_cluster
from api.store import events, leases
from api.store.tables import ClusterRow, NodeRow, RoundRow, TrainingRow
from workers.agent.protocol.training import ReplicateModel, ShardReport
from workers.agent_client import AgentRefusedError, AgentUnreachableError
from workers.context import Context
from workers.steps import nodes
from workers.steps.rounds import classes
from workers.steps.rounds.preparation import check_pooled
from workers.steps.rounds.privacy import EpsilonSpentError, plan_joiner
from workers.steps.rounds.reading import UNREACHABLE, check_shard
from workers.steps.rounds.refusal import RefusalError
from workers.steps.shared import red_flags
from workers.steps.shared.lease import act
from workers.steps.shared.node_snapshot import NodeSnapshot, agent_of, peers_of
from workers.steps.shared.training_snapshot import TrainingSnapshot

log = logging.getLogger(__name__)
# The next round waits for the check at most this long.
_CHECK_S = 30.0
_SILENT = "its agent does not answer"


@dataclass(frozen=True, slots=True)
class _Outside:
    """A running worker that does not take part. `flag` says why it is not checked now."""

    node: NodeSnapshot
    model: str
    flag: Flag | None


@dataclass(frozen=True, slots=True)
class _Checked:
    """A joiner after its check. `problem` is None if it may take part. `report` is its shard."""

    node: NodeSnapshot
    seconds: float = 0.0
    report: ShardReport | None = None
    plan: PrivacyPlan | None = None
    problem: str | None = None
    silent: bool = False


def admit(context: Context, training: TrainingSnapshot, token: str, aggregator: NodeSnapshot) -> bool:
    """Let workers join before the next round. Return whether one has joined.

    The training is then given back, so that its next step sees the new workers.
    """
    outside = _outside(context, training, token)
    if outside is None:
        return False
    to_check = [worker for worker in outside if worker.flag is None]
    checked: Sequence[_Checked] = ()
    if to_check:
        checked = act(
            context, TrainingRow, training.training_id, token, lambda: _check_all(context, training, aggregator, to_check)
        )
    checked = [_with_plan(context, training, worker) for worker in checked]
    for worker in checked:
        if worker.silent:
            nodes.mark_lost(context, worker.node.node_id, _SILENT)
    return _apply(context, training, token, [worker.flag for worker in outside if worker.flag is not None], checked)


def _outside(context: Context, training: TrainingSnapshot, token: str) -> list[_Outside] | None:
    """Return the running workers that do not take part. None if there is nothing to do now."""
    with context.database.unit_of_work() as uow:
        session = uow.session
        row = leases.held(session, TrainingRow, training.training_id, token)
        number = training.completed_rounds + 1
        status = session.scalar(select(RoundRow.status).where(RoundRow.training_id == row.id, RoundRow.number == number))
        if status == "running":
            return None
        cluster = session.get_one(ClusterRow, row.cluster_id)
        now: datetime = session.execute(select(func.clock_timestamp())).scalar_one()
        found = [_see(row, cluster, node, now) for node in _running_outside(session, row)]
        is_flagged = any(flag.code in JOIN_FLAGS for flag in row.red_flags)
        return found if found or is_flagged else None


def _running_outside(session: Session, training: TrainingRow) -> list[NodeRow]:
    rows = session.scalars(
        select(NodeRow)
        .where(NodeRow.cluster_id == training.cluster_id, NodeRow.role == "worker", NodeRow.status == "running")
        .order_by(NodeRow.created_at, NodeRow.id)
    )
    return [row for row in rows if row.id not in training.workers and "training" in row.capabilities]


def _see(training: TrainingRow, cluster: ClusterRow, node: NodeRow, now: datetime) -> _Outside:
    flag = outside_flag(
        node.id,
        cluster.id,
        late_joiners=training.config.late_joiners,
        in_search=training.search_id is not None,
        connected=node.id in cluster.members,
    )
    record = training.joiners.get(node.id)
    if flag is None and record is not None and record.problem is not None and not record.is_due(now):
        flag = refusal_flag(node.id, record.problem)
    return _Outside(NodeSnapshot.of(node), node.model, flag)


async def _check_all(
    context: Context, training: TrainingSnapshot, aggregator: NodeSnapshot, outside: Sequence[_Outside]
) -> list[_Checked]:
    too_small = await _pooled_problem(context, training, aggregator, len(outside))
    if too_small is not None:
        return [_Checked(worker.node, problem=too_small) for worker in outside]
    return list(await asyncio.gather(*(_check(context, training, aggregator, worker) for worker in outside)))


async def _pooled_problem(context: Context, training: TrainingSnapshot, aggregator: NodeSnapshot, joining: int) -> str | None:
    """Return why the pooled data set is too small for more workers. None if it is not."""
    if training.spec.federated:
        return None
    try:
        check_pooled(len(training.planned_workers) + joining, await check_shard(context, aggregator, training.spec))
    except RefusalError as refusal:
        return refusal.reason.detail.rstrip(".")
    return None


async def _check(context: Context, training: TrainingSnapshot, aggregator: NodeSnapshot, outside: _Outside) -> _Checked:
    """Check one worker's data, and have it fetch the newest model."""
    checked, started = _Checked(outside.node), time.monotonic()
    if outside.model != training.model:
        problem = f"it was deployed with model {outside.model!r}, and this training has {training.model!r}; deploy another node"
        return replace(checked, problem=problem)
    try:
        async with asyncio.timeout(_CHECK_S):
            checked = await _check_data(context, training, checked)
            if checked.problem is None:
                await _fetch_model(context, training, aggregator, outside.node)
    except TimeoutError:
        problem = f"its data was not checked within {_CHECK_S:.0f} s; stop and resume the training to wait for it"
        checked = replace(checked, problem=problem)
    except AgentUnreachableError:
        checked = replace(checked, problem=_SILENT, silent=True)
    except AgentRefusedError as error:
        checked = replace(checked, problem=f"it could not get the global model: {error.message} ({error.code})")
    return replace(checked, seconds=time.monotonic() - started)


async def _check_data(context: Context, training: TrainingSnapshot, checked: _Checked) -> _Checked:
    agent = await agent_of(context, checked.node)
    # It ends soon where the agent is frozen.
    await agent.health()
    if not training.spec.federated:
        return checked
    report = await check_shard(context, checked.node, training.spec)
    if report.problem is not None and report.problem.code == UNREACHABLE:
        return replace(checked, problem=_SILENT, silent=True)
    problem = report.problem.message.rstrip(".") if report.problem is not None else classes.unknown(report, training.labels)
    return replace(checked, report=report, problem=problem)


async def _fetch_model(context: Context, training: TrainingSnapshot, aggregator: NodeSnapshot, node: NodeSnapshot) -> None:
    """Have the worker fetch the newest global model from the aggregator.

    Raises:
        AgentUnreachableError: the worker does not answer.
        AgentRefusedError: the model cannot be fetched.
    """
    peers = await peers_of(context, [aggregator])
    if aggregator.node_id not in peers or training.digest is None:
        raise AgentRefusedError("no_aggregator", "the aggregator cannot be reached")
    request = ReplicateModel(training_id=training.training_id, digest=training.digest, source=peers[aggregator.node_id])
    agent = await agent_of(context, node)
    await agent.replicate_model(request)


def _with_plan(context: Context, training: TrainingSnapshot, checked: _Checked) -> _Checked:
    """Add the worker's plan under differential privacy."""
    if checked.problem is not None or checked.report is None:
        return checked
    try:
        return replace(checked, plan=plan_joiner(context, training, checked.node.node_id, checked.report.samples))
    except EpsilonSpentError as spent:
        return replace(checked, problem=str(spent))


def _apply(context: Context, training: TrainingSnapshot, token: str, flags: list[Flag], checked: Sequence[_Checked]) -> bool:
    with context.database.unit_of_work() as uow:
        session = uow.session
        cluster = locked_cluster(session, training.cluster_id)
        row = leases.held(session, TrainingRow, training.training_id, token)
        now: datetime = session.execute(select(func.clock_timestamp())).scalar_one()
        # A node may have been removed or replaced since it was checked.
        still_here = {node.id: node.sandbox_id for node in _running_outside(session, row)}
        present = [worker for worker in checked if still_here.get(worker.node.node_id) == worker.node.sandbox_id]
        refused = {worker.node.node_id: worker.problem for worker in present if worker.problem is not None}
        joining = [worker for worker in present if worker.problem is None] if row.status == "training" else []
        recorded = [worker for worker in present if worker.problem is not None or worker in joining]
        row.joiners = {**row.joiners, **{worker.node.node_id: _record(row, worker, now) for worker in recorded}}
        for worker in joining:
            _join(session, cluster, row, worker)
        flags = [flag for flag in flags if flag.node_id in still_here]
        red_flags.replace_join_flags(session, row, [*flags, *(refusal_flag(*refusal) for refusal in refused.items())])
        if joining:
            leases.release(row, 0)
            uow.enqueue(Step.TRAININGS_ADVANCE, row.id)
        return bool(joining)


def _record(training: TrainingRow, worker: _Checked, now: datetime) -> JoinRecord:
    if worker.problem is not None:
        return JoinRecord(checked_at=now, check_seconds=worker.seconds, problem=worker.problem)
    number = training.completed_rounds + 1
    return JoinRecord(checked_at=now, check_seconds=worker.seconds, joined_at=now, round=number)


def _join(session: Session, cluster: ClusterRow, training: TrainingRow, worker: _Checked) -> None:
    node_id = worker.node.node_id
    training.workers = [*training.workers, node_id]
    if worker.plan is not None and training.privacy is not None:
        training.privacy = training.privacy.with_plan(node_id, worker.plan)
    if worker.report is not None:
        red_flags.add_data_flags(session, training, classes.joiner_flags(worker.report, training.labels or ()))
    facts = {
        "training_id": training.id,
        "node_id": node_id,
        "round": training.completed_rounds + 1,
        "samples": None if worker.report is None else worker.report.samples,
        "workers": training.workers,
    }
    events.emit(session, cluster.id, EventType.TRAINING_WORKER_JOINED, facts, training_id=training.id)
    log.info("%s: %s joins in round %d", training.id, node_id, training.completed_rounds + 1)

"""Before the first round: every worker's data is looked at where it lies, and the first global model is made."""

import asyncio
from collections.abc import Sequence
from typing import Any

from sqlalchemy import func

from api.domain.specs import holds_out
from api.services import searches
from api.services.lookup import locked_cluster
from api.store import leases, transitions
from api.store.tables import TrainingRow
from workers.agent.protocol.common import AgentProblem
from workers.agent.protocol.training import CheckShard, InitTraining, InitTrainingResult, ShardReport
from workers.agent_client import AgentRefusedError, AgentUnreachableError
from workers.context import Context
from workers.steps import nodes
from workers.steps.rounds.observation import learners
from workers.steps.rounds.privacy import SpentError, plans
from workers.steps.shared.lease import act
from workers.steps.shared.node_snapshot import NodeSnapshot, agent_of, peers_of
from workers.steps.shared.training_snapshot import TrainingSnapshot, wait_and_retry

# The state of a node is a conflict (409); what its owner uploaded is content that cannot be used (422).
_UNREACHABLE = "node_unreachable"


class RefusalError(Exception):
    """Why a training cannot start, as problem+json's members."""

    def __init__(self, status: int, code: str, detail: str, errors: Sequence[dict[str, str]] = ()) -> None:
        super().__init__(detail)
        self.error: dict[str, Any] = {"status": status, "code": code, "detail": detail, "errors": list(errors)}


class _SilentError(Exception):
    """Nodes that did not answer; their own steps look whether they come back."""

    def __init__(self, node_ids: Sequence[str]) -> None:
        super().__init__(", ".join(node_ids))
        self.node_ids = node_ids


def prepare(context: Context, job: TrainingSnapshot, token: str) -> None:
    """Move a pending training to `training`, or to `refused` with which node and why. Nodes that may come back are waited
    for."""
    here = {member.node_id for member in job.workers}
    missing = [node_id for node_id in job.planned_workers if node_id not in here]
    gone = [node_id for node_id in missing if node_id not in {member.node_id for member in job.recovering}]
    if job.aggregator is None and not job.aggregator_returns:
        gone.append(job.aggregator_id)
    if gone:
        _refuse(context, job, token, RefusalError(409, _UNREACHABLE, f"Not running any more: {', '.join(gone)}.").error)
        return
    if missing or job.aggregator is None:
        wait_and_retry(context, job, token)
        return
    aggregator = job.aggregator
    try:
        labels, ready, samples = act(context, TrainingRow, job.training_id, token, lambda: _prepare(context, job, aggregator))
        privacy = plans(context, job, samples)
    except _SilentError as unreachable:
        for node_id in unreachable.node_ids:
            nodes.mark_lost(context, node_id, "its agent does not answer")
        wait_and_retry(context, job, token)
        return
    except RefusalError as refusal:
        _refuse(context, job, token, refusal.error)
        return
    except SpentError as spent:
        error = RefusalError(422, "epsilon_spent", str(spent), [{"pointer": "/differential_privacy", "message": str(spent)}])
        _refuse(context, job, token, error.error)
        return
    with context.database.unit_of_work() as uow:
        cluster = locked_cluster(uow.session, job.cluster_id)
        training = leases.held(uow.session, TrainingRow, job.training_id, token)
        if training.status == "pending":
            training.labels = labels
            training.privacy = privacy
            training.digest = ready.digest
            training.parameters = ready.parameters
            training.started_at = training.started_at or func.clock_timestamp()
            transitions.move(
                uow.session, training, "training", parameters=ready.parameters, model_bytes=ready.bytes, labels=labels
            )
            if cluster.status == "connected":
                transitions.move(uow.session, cluster, "training", training_id=training.id)
        leases.release(training, 0)
        uow.enqueue("trainings.advance", training.id)


async def _prepare(
    context: Context, job: TrainingSnapshot, aggregator: NodeSnapshot
) -> tuple[list[str], InitTrainingResult, dict[str, int]]:
    holders = learners(job, job.workers)
    reports = await asyncio.gather(*(_check(context, member, job.config["dataset"]) for member in holders))
    unreachable = [report.node_id for report in reports if report.problem is not None and report.problem.code == _UNREACHABLE]
    if unreachable:
        raise _SilentError(unreachable)
    if not job.config["federated"]:
        _check_pooled(job, reports[0])
    labels = agreed_labels(reports)
    if job.labels and labels != list(job.labels):
        raise RefusalError(422, "labels_changed", "The labels differ from those this training began with.")
    request = await init_request(context, job, labels)
    try:
        async with agent_of(context, aggregator) as agent:
            ready = await agent.init_training(request)
    except AgentUnreachableError as error:
        raise _SilentError([aggregator.node_id]) from error
    except AgentRefusedError as error:
        raise RefusalError(422, error.code, f"{job.aggregator_id}: {error.message}") from error
    if ready.problem is not None:
        raise RefusalError(422, ready.problem.code, f"{job.aggregator_id}: {ready.problem.message}")
    measured = holds_out(job.config) or ready.validation_samples is not None or job.validators
    stops_by = next((name for name in ("target_accuracy", "patience") if job.config[name] is not None), None)
    if stops_by and not measured:
        message = "There is no validation file and nothing is held out, so that no accuracy would be measured to stop by."
        raise RefusalError(422, "nothing_to_measure_on", message, [{"pointer": f"/{stops_by}", "message": message}])
    return labels, ready, {report.node_id: report.samples for report in reports}


async def init_request(context: Context, job: TrainingSnapshot, labels: Sequence[str]) -> InitTraining:
    """What makes an aggregator ready: the first global model, or the last one, from whoever still has it."""
    peers = await peers_of(context, [*job.workers, *job.idle])
    return InitTraining(
        training_id=job.training_id,
        model=job.spec_for(labels),
        # Before the first round there is nothing to restore: the same seed gives the same weights.
        base_digest=job.digest if job.completed_rounds else None,
        sources=list(peers.values()),
        validation=job.config["validation"],
        freeze_layers=job.config["freeze_layers"],
        private=job.config["differential_privacy"] is not None,
    )


async def _check(context: Context, member: NodeSnapshot, dataset: str) -> ShardReport:
    try:
        async with agent_of(context, member) as agent:
            return await agent.check_shard(CheckShard(dataset=dataset))
    except AgentUnreachableError:
        problem = AgentProblem(code=_UNREACHABLE, message="the node's agent does not answer")
    except AgentRefusedError as error:
        problem = AgentProblem(code=error.code, message=error.message)
    return ShardReport(node_id=member.node_id, problem=problem)


def _check_pooled(job: TrainingSnapshot, report: ShardReport) -> None:
    """RefusalError where the pooled data set is not in the aggregator's sandbox, or has too few samples to share out."""
    if report.problem is not None and report.problem.code == "no_match":
        message = (
            f"{report.node_id}: no file in the aggregator's sandbox matches the path. With federated false the pooled data set "
            "lies there; data in the workers' sandboxes is not used."
        )
        raise RefusalError(422, "no_match", message, [{"pointer": "/dataset", "message": message}])
    # A tenth is held out, and every worker needs a share.
    if report.problem is None and report.samples < 2 * len(job.workers):
        message = f"{report.samples} samples are too few to share out over {len(job.workers)} workers."
        raise RefusalError(422, "too_few_samples", message, [{"pointer": "/dataset", "message": message}])


def agreed_labels(reports: Sequence[ShardReport]) -> list[str]:
    """The labels that every shard has, sorted; RefusalError when a shard is unusable or the shards disagree."""
    bad = [(report.node_id, report.problem) for report in reports if report.problem is not None]
    if bad:
        errors = [{"pointer": "/dataset", "message": f"{node_id}: {problem.message}"} for node_id, problem in bad]
        codes = {problem.code for _, problem in bad}
        code = codes.pop() if len(codes) == 1 else "shards_unusable"
        raise RefusalError(422, code, "; ".join(error["message"] for error in errors), errors)
    by_labels: dict[tuple[str, ...], list[str]] = {}
    for report in reports:
        by_labels.setdefault(tuple(sorted(report.labels)), []).append(report.node_id)
    if len(by_labels) > 1:
        # How many classes, not which: a class name is the data owner's to tell.
        errors = [
            {"pointer": "/dataset", "message": f"{', '.join(node_ids)}: {len(labels)} labels, unlike other workers'"}
            for labels, node_ids in sorted(by_labels.items(), key=lambda item: len(item[1]))
        ]
        raise RefusalError(422, "labels_differ", "The workers' shards do not have the same labels.", errors)
    return list(next(iter(by_labels)))


def _refuse(context: Context, job: TrainingSnapshot, token: str, error: dict[str, Any]) -> None:
    with context.database.unit_of_work() as uow:
        locked_cluster(uow.session, job.cluster_id)
        training = leases.held(uow.session, TrainingRow, job.training_id, token)
        training.error = error
        training.finished_at = func.clock_timestamp()
        if training.status == "pending":
            resumed = training.completed_rounds > 0
            transitions.move(uow.session, training, "failed" if resumed else "refused", error=error)
            leases.release(training, None)
            searches.wake_search(uow, training)
        else:
            leases.release(training, 0)
            uow.enqueue("trainings.advance", training.id)

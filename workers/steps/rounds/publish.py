"""A round's new model: every worker takes a copy of it, and it is measured on data that no worker trained on."""

import asyncio
import logging
import time
from collections.abc import Sequence

from api.domain.specs import holds_out
from workers.agent.protocol.common import Peer
from workers.agent.protocol.inference import EvaluateModel, EvaluationResult
from workers.agent.protocol.training import ReplicateModel
from workers.agent_client import AgentCallError
from workers.context import Context
from workers.steps.rounds.observation import RoundObservation, data_path, in_order, learners
from workers.steps.shared.node_snapshot import NodeSnapshot, agent_of
from workers.steps.shared.training_snapshot import TrainingSnapshot

log = logging.getLogger(__name__)


async def replicate_model(
    context: Context,
    job: TrainingSnapshot,
    peers: dict[str, Peer],
    kind: str,
    workers: Sequence[NodeSnapshot],
    outcome: RoundObservation,
) -> None:
    """Have every worker pull the new model, which it needs for the next round anyhow, in a hierarchy from its head."""
    digest = outcome.aggregate.digest if outcome.aggregate else None
    request = ReplicateModel(training_id=job.training_id, digest=digest or "", source=peers[job.aggregator_id])
    path = data_path(job, 0, kind, in_order(job, peers), 0) if kind == "hierarchical" else None
    heads = {node_id: group[0] for group in path.groups for node_id in group[1:]} if path else {}
    present = [member for member in workers if member.node_id not in outcome.unreachable]

    async def one(member: NodeSnapshot) -> None:
        head = peers.get(heads.get(member.node_id, ""))
        try:
            async with agent_of(context, member) as agent:
                kept = await agent.replicate_model(request.model_copy(update={"head": head}))
        except AgentCallError as error:
            log.warning("%s: no copy: %s", job.training_id, error)
        else:
            outcome.copies.append(kept.node_id)
            outcome.links += kept.links

    await asyncio.gather(*map(one, present))
    outcome.copies.sort()


async def evaluate(
    context: Context, job: TrainingSnapshot, source: Peer, workers: Sequence[NodeSnapshot], outcome: RoundObservation
) -> None:
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
    elif holds_out(job.config):
        # A late worker still trains: it would answer only when it has finished.
        punctual = {report.node_id for report in aggregate.received}
        present = [member for member in workers if member.node_id in punctual & set(outcome.copies)]
        holders = learners(job, present)
        found = await _evaluations(context, job, source, holders, aggregate.digest, job.config["dataset"], held_out=True)
        outcome.evaluated_by = "held_out_splits" if found else None
    outcome.evaluations = found
    outcome.evaluate_seconds = time.monotonic() - started


async def _evaluations(
    context: Context,
    job: TrainingSnapshot,
    source: Peer,
    members: Sequence[NodeSnapshot],
    digest: str,
    dataset: str,
    *,
    held_out: bool,
) -> list[EvaluationResult]:
    request = EvaluateModel(
        training_id=job.training_id,
        model=job.model_spec,
        digest=digest,
        source=source,
        dataset=dataset,
        held_out=held_out,
    )

    async def one(member: NodeSnapshot) -> EvaluationResult | None:
        try:
            async with agent_of(context, member) as agent:
                return await agent.evaluate(request)
        except AgentCallError as error:
            log.warning("%s: no evaluation: %s", job.training_id, error)
            return None

    return [found for found in await asyncio.gather(*map(one, members)) if found is not None]

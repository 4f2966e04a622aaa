"""A round's new model: every worker takes a copy, and the model is measured on unseen data."""

import asyncio
import logging
import time
from collections.abc import Sequence

from workers.agent.protocol.inference import EvaluateModel, EvaluationResult
from workers.agent.protocol.training import ReplicateModel, ReplicateResult
from workers.agent_client import AgentCallError
from workers.steps.rounds.context import RoundContext
from workers.steps.rounds.observation import RoundObservation
from workers.steps.rounds.requests import RoundPeers
from workers.steps.shared.agent_messages import data_format
from workers.steps.shared.node_snapshot import NodeSnapshot, agent_of

log = logging.getLogger(__name__)


async def replicate_model(this: RoundContext, peers: RoundPeers, observation: RoundObservation) -> None:
    """Have every worker pull the new model, in a hierarchy from the head of its group.

    The workers need it for the next round anyhow. It also outlives the aggregator's sandbox. In a
    star most workers have fetched it already.
    """
    digest = observation.aggregate.digest if observation.aggregate is not None else None
    if digest is None or peers.aggregator is None:
        return
    request = ReplicateModel(training_id=this.training.training_id, digest=digest, source=peers.aggregator)
    path = peers.data_path(observation) if this.data_path == "hierarchical" else None
    heads = {node_id: group[0] for group in path.groups for node_id in group[1:]} if path is not None else {}

    async def replicate(node: NodeSnapshot) -> ReplicateResult | None:
        own = observation.replica_of(node.node_id)
        if own is not None:
            return own.model_copy(update={"node_id": node.node_id})
        head = peers.by_id.get(heads.get(node.node_id, ""))
        try:
            agent = await agent_of(this.context, node)
            return await agent.replicate_model(request.model_copy(update={"head": head}))
        except AgentCallError as error:
            log.warning("%s: no copy: %s", this.training.training_id, error)
            return None

    absent = observation.unreachable.keys() | observation.silent
    present = [node for node in peers.workers if node.node_id not in absent]
    replicas = await asyncio.gather(*map(replicate, present))
    observation.add_replicas(replica for replica in replicas if replica is not None)


async def evaluate_model(this: RoundContext, peers: RoundPeers, observation: RoundObservation) -> None:
    """Measure the new model on data that no worker trained on.

    That is the validation data of the aggregator and the validators. Without any, it is the
    workers' held-out splits.
    """
    aggregate = observation.aggregate
    if aggregate is None or aggregate.digest is None or peers.aggregator is None:
        return
    started = time.monotonic()
    request = EvaluateModel(
        training_id=this.training.training_id,
        model=this.training.model_spec,
        digest=aggregate.digest,
        source=peers.aggregator,
        dataset=this.spec.validation,
        data_format=data_format(this.spec),
        held_out=False,
    )
    evaluations = [aggregate.validation] if aggregate.validation else []
    evaluations += await _evaluate(this, this.training.validators, request)
    evaluated_by = "validation_data" if evaluations else None
    if not evaluations and this.spec.holds_out:
        held_out = request.model_copy(update={"dataset": this.spec.dataset, "held_out": True})
        evaluations = await _evaluate(this, _holders(this, peers, observation), held_out)
        evaluated_by = "held_out_splits" if evaluations else None
    observation.add_evaluations(evaluations, evaluated_by, time.monotonic() - started)


def _holders(this: RoundContext, peers: RoundPeers, observation: RoundObservation) -> Sequence[NodeSnapshot]:
    """Who measures the model on held-out samples.

    A late worker is left out: it still trains, and would answer only when it has finished.
    """
    if not this.spec.federated or observation.aggregate is None:
        return (this.aggregator,)
    ready = {report.node_id for report in observation.aggregate.received} & set(observation.copies)
    return [node for node in peers.workers if node.node_id in ready]


async def _evaluate(this: RoundContext, nodes: Sequence[NodeSnapshot], request: EvaluateModel) -> list[EvaluationResult]:
    async def evaluate(node: NodeSnapshot) -> EvaluationResult | None:
        try:
            agent = await agent_of(this.context, node)
            return await agent.evaluate(request)
        except AgentCallError as error:
            log.warning("%s: no evaluation: %s", this.training.training_id, error)
            return None

    results = await asyncio.gather(*map(evaluate, nodes))
    return [result for result in results if result is not None]

"""The graphs for predictions, made between a training's last round and its end.

Without them the first prediction makes them. So no failure here is one of the training.
"""

import asyncio
import logging

from workers.agent.protocol.common import Peer
from workers.agent.protocol.graphs import FetchGraphs, WriteGraphs
from workers.agent_client import AgentCallError
from workers.context import Context
from workers.steps.shared.agent_messages import data_format
from workers.steps.shared.node_snapshot import NodeSnapshot, agent_of, peers_of
from workers.steps.shared.training_snapshot import TrainingSnapshot

log = logging.getLogger(__name__)


async def make_graphs(context: Context, training: TrainingSnapshot) -> None:
    """Have the aggregator write the graphs of the last model, and the workers fetch them."""
    aggregator, digest = training.aggregator, training.digest
    if aggregator is None or digest is None:
        return
    format_ = data_format(training.spec)
    request = WriteGraphs(
        training_id=training.training_id,
        model=training.model_spec,
        digest=digest,
        validation=training.spec.validation,
        data_format=format_,
    )
    try:
        written = await (await agent_of(context, aggregator)).write_graphs(request)
    except AgentCallError as error:
        log.warning("%s: no graphs: %s", training.training_id, error)
        return
    source = (await peers_of(context, [aggregator])).get(aggregator.node_id)
    if source is not None:
        workers = [node for node in training.workers if "inference" in node.capabilities]
        await asyncio.gather(*(_fetch(context, training, node, source, written.files) for node in workers))


async def _fetch(context: Context, training: TrainingSnapshot, node: NodeSnapshot, source: Peer, files: dict[str, str]) -> None:
    spec = training.spec
    request = FetchGraphs(
        training_id=training.training_id,
        model=training.model_spec,
        digest=training.digest or "",
        source=source,
        files=files,
        dataset=spec.dataset if spec.holds_out else None,
        data_format=data_format(spec),
    )
    try:
        await (await agent_of(context, node)).fetch_graphs(request)
    except AgentCallError as error:
        log.warning("%s: %s has no graphs: %s", training.training_id, node.node_id, error)

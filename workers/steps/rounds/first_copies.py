"""The copies of the model that a training's first round begins with.

Later rounds begin with a model that the workers have fetched in the round before.
"""

import asyncio
import logging

from workers.agent.protocol.training import ReplicateModel
from workers.agent_client import AgentCallError
from workers.context import Context
from workers.steps.shared.node_snapshot import NodeSnapshot, agent_of, peers_of
from workers.steps.shared.training_snapshot import TrainingSnapshot

log = logging.getLogger(__name__)


async def copy_first_model(context: Context, training: TrainingSnapshot, aggregator: NodeSnapshot, digest: str) -> None:
    """Have each worker fetch the model, if it does not have it. In a round it fetches what is
    missing, so that no failure here is one of the training.

    In a hierarchy the heads of the groups spread the model, in the round.
    """
    source = (await peers_of(context, [aggregator])).get(aggregator.node_id)
    if source is None or not training.spec.federated or training.topology == "hierarchical":
        return
    request = ReplicateModel(training_id=training.training_id, digest=digest, source=source)

    async def copy(node: NodeSnapshot) -> None:
        try:
            await (await agent_of(context, node)).replicate_model(request)
        except AgentCallError as error:
            log.info("%s: no copy: %s", training.training_id, error)

    await asyncio.gather(*map(copy, training.workers))

"""A trained model that the aggregator no longer has, because its sandbox was replaced: pulled again from a worker."""

from collections.abc import Sequence

from workers.agent.protocol.common import ModelSpec, Peer
from workers.agent.protocol.training import InitTraining
from workers.agent_client import AgentClient


async def restore(aggregator: AgentClient, training_id: str, model: ModelSpec, digest: str, sources: Sequence[Peer]) -> None:
    """AgentRefusedError `unknown_model` when no source has a copy either."""
    await aggregator.init_training(
        InitTraining(training_id=training_id, model=model, base_digest=digest, sources=list(sources))
    )

"""How updates become one mean over the workers."""

from typing import Literal

from pydantic import Field

from workers.agent.protocol.common import Message, Peer


class DataPath(Message):
    """How a round's updates become one mean: over the workers instead of at the aggregator. `peers` in their order in the
    ring; `groups` of node ids: for `hierarchical` each begins with its head, for `gossip` they are the round's pairs."""

    kind: Literal["mesh", "ring", "hierarchical", "gossip"]
    peers: list[Peer]
    groups: list[list[str]] = []
    wait_s: float = Field(description="how long a worker waits for another's part")


class FallBackToStar(Message):
    reason: str

"""The data path of a round: how the updates become one mean."""

from typing import Literal

from pydantic import Field

from workers.agent.protocol.common import Message, Peer


class DataPath(Message):
    """The workers average their updates among themselves, without the aggregator."""

    kind: Literal["mesh", "ring", "hierarchical", "gossip"]
    peers: list[Peer] = Field(description="The workers, in their order in the ring.")
    groups: list[list[str]] = Field(
        [], description="Node ids: `hierarchical` has groups that start with their head, `gossip` has pairs."
    )
    wait_s: float = Field(description="Seconds that a worker waits for a part of another worker.")


class FallBackToStar(Message):
    """Leave the exchange and send the own update to the aggregator."""

    reason: str

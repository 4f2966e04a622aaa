"""How updates become one mean over the workers."""

from typing import Literal

from pydantic import Field

from workers.agent.protocol.common import Message, Peer, Problem
from workers.agent.protocol.training import TrainReport


class DataPath(Message):
    """How a round's updates become one mean: over the workers instead of at the aggregator. `peers` in their order in the
    ring; `groups` of node ids: for `hierarchical` each begins with its head, for `gossip` they are the round's pairs."""

    kind: Literal["mesh", "ring", "hierarchical", "gossip"]
    peers: list[Peer]
    groups: list[list[str]] = []
    wait_s: float = Field(description="how long a worker waits for another's part")


class Exchanged(Message):
    """What an exchange gave one worker: a mean that the aggregator may pull by its digest, or a problem."""

    report: TrainReport
    digest: str | None = Field(None, description="of the mean; None for a member of a group, whose head has it")
    samples: int = Field(0, description="training samples that the mean stands for")
    problem: Problem | None = None


class Fallback(Message):
    reason: str

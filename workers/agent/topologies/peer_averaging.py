"""What a worker has in hand when it exchanges its update with the round's other workers.

Workers pull from one another: each offers its parts by name, and whoever needs one asks for it and waits. So a part is taken
when the taker is ready for it, and a lost peer is a failed request, not silence.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from workers.agent.peers.client import PeerClient
from workers.agent.peers.outbox import Outbox
from workers.agent.protocol.common import LinkUse, Peer
from workers.agent.protocol.exchange import DataPath
from workers.agent.storage import tensors

UPDATE = "update"


@dataclass(frozen=True, slots=True)
class Mean:
    """A weighted mean of updates, and how many samples it stands for."""

    state: tensors.State
    samples: int


@dataclass(slots=True)
class PeerAveraging:
    """`update` is this worker's own file with its report in the metadata, `base` the round's global model."""

    node_id: str
    training_id: str
    number: int
    path: DataPath
    base: Path
    update: Path
    samples: int
    exchange: PeerClient
    parts: Outbox
    links: dict[str, LinkUse] = field(default_factory=dict)

    @property
    def peers(self) -> Sequence[Peer]:
        return self.path.peers

    @property
    def place(self) -> int:
        """This worker's index among the peers."""
        return next(index for index, peer in enumerate(self.peers) if peer.node_id == self.node_id)

    def named(self, part: str) -> str:
        """A part's name. Workers that were told of other peers do not find it, and so never mix two exchanges."""
        return f"{hashlib.sha256(','.join(peer.node_id for peer in self.peers).encode()).hexdigest()[:12]}.{part}"

    def offer(self, part: str, path: Path) -> None:
        self.parts.offer(self.named(part), path)

    async def take(self, peer: Peer, name: str) -> Path:
        """Another worker's part, as a file. AgentError `peer_lost`, `peer_left` or `peer_slow` when it does not come."""
        target = self.parts.incoming / f"{peer.node_id}.{name}"
        part = f"/trainings/{self.training_id}/rounds/{self.number}/parts/{self.named(name)}"
        size, seconds = await self.exchange.fetch_part(peer, part, target, self.path.wait_s)
        before = self.links.get(peer.node_id)
        self.links[peer.node_id] = LinkUse(
            source=peer.node_id,
            target=self.node_id,
            bytes=size + (before.bytes if before else 0),
            seconds=seconds + (before.seconds if before else 0.0),
        )
        return target

"""What a worker needs to average its update with the round's other workers.

Workers pull from one another. Each offers its parts by name, and another worker requests one and
waits for it. So a part is fetched when the receiver is ready. A lost peer is a failed request, not
silence.
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
    """A weighted mean of updates, and the number of samples behind it."""

    state: tensors.State
    samples: int


@dataclass(slots=True)
class PeerAveraging:
    """`update` is this worker's file with its report in the metadata, `base` the global model's."""

    node_id: str
    training_id: str
    number: int
    path: DataPath
    base: Path
    update: Path
    samples: int
    peer_client: PeerClient
    outbox: Outbox
    links: dict[str, LinkUse] = field(default_factory=dict)

    @property
    def peers(self) -> Sequence[Peer]:
        return self.path.peers

    @property
    def place(self) -> int:
        """This worker's index among the peers."""
        return next(index for index, peer in enumerate(self.peers) if peer.node_id == self.node_id)

    @property
    def group(self) -> Sequence[str]:
        """The node ids of this worker's group."""
        return next(group for group in self.path.groups if self.node_id in group)

    def peer(self, node_id: str) -> Peer:
        return next(peer for peer in self.peers if peer.node_id == node_id)

    def part_name(self, part: str) -> str:
        """Return a part's name in this exchange.

        Workers with another list of peers do not find it, so two exchanges never mix.
        """
        return f"{hashlib.sha256(','.join(peer.node_id for peer in self.peers).encode()).hexdigest()[:12]}.{part}"

    def offer(self, part: str, path: Path) -> None:
        self.outbox.offer(self.part_name(part), path)

    async def fetch(self, peer: Peer, part: str) -> Path:
        """Return another worker's part, as a file.

        Raises: AgentError `peer_lost`, `peer_left` or `peer_slow` if it does not arrive.
        """
        target = self.outbox.incoming / f"{peer.node_id}.{part}"
        url = f"/trainings/{self.training_id}/rounds/{self.number}/parts/{self.part_name(part)}"
        size, seconds = await self.peer_client.fetch_part(peer, url, target, self.path.wait_s)
        before = self.links.get(peer.node_id)
        self.links[peer.node_id] = LinkUse(
            source=peer.node_id,
            target=self.node_id,
            bytes=size + (before.bytes if before else 0),
            seconds=seconds + (before.seconds if before else 0.0),
        )
        return target

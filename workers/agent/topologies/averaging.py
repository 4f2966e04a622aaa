"""The peer averaging of each topology, by its name.

A star has none: its updates go to the aggregator.
"""

from collections.abc import Awaitable, Callable
from typing import Final

from workers.agent.topologies import gossip, hierarchical, mesh, ring
from workers.agent.topologies.peer_averaging import Mean, PeerAveraging

AVERAGING: Final[dict[str, Callable[[PeerAveraging], Awaitable[Mean | None]]]] = {
    "mesh": mesh.average_with_peers,
    "ring": ring.average_with_peers,
    "hierarchical": hierarchical.average_with_peers,
    "gossip": gossip.average_with_peers,
}

"""The data paths by their topology's name; a star has none of its own: its updates go to the aggregator."""

from collections.abc import Awaitable, Callable
from typing import Final

from workers.agent.topologies import gossip, hierarchical, mesh, ring
from workers.agent.topologies.meeting import Mean, Meeting

PATTERNS: Final[dict[str, Callable[[Meeting], Awaitable[Mean | None]]]] = {
    "mesh": mesh.meet,
    "ring": ring.meet,
    "hierarchical": hierarchical.meet,
    "gossip": gossip.meet,
}

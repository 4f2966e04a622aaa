"""Topologies: which nodes exchange data. Pure functions from ordered worker ids to edges."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from math import isqrt
from typing import Annotated, Literal

from api.domain.consensus import judges
from api.domain.strategies import needs_single_updates
from api.domain.words import Words

Topology = Annotated[
    Literal["mesh", "ring", "star", "hierarchical"], Words("Topology", "Which nodes of a cluster are connected.")
]
DataPath = Annotated[
    Literal["mesh", "ring", "star", "hierarchical", "gossip"], Words("DataPath", "How the updates of a round became one model.")
]


@dataclass(frozen=True, slots=True)
class Edge:
    source: str
    target: str


def groups(workers: Sequence[str]) -> list[list[str]]:
    """Split n workers into about sqrt(n) groups of nearly equal size.

    The first of each group is its head.
    """
    if not workers:
        return []
    count = max(1, isqrt(len(workers)))
    return [list(workers[i::count]) for i in range(count)]


def data_path(
    topology: str, workers: int, consensus: str, strategy: str, *, partial: bool = False, secure: bool = False
) -> tuple[str, str | None]:
    """Return the data path of a round's updates. A fallback to `star` has its reason.

    A mean can be computed on the way between workers. A strategy or a consensus that needs each
    single update needs all of them at the aggregator.

    `partial`: updates are compressed or lack frozen layers. The aggregator completes them.
    `secure`: updates are masked for the aggregator, which adds them up.
    """
    if topology == "star":
        return "star", None
    if judges(consensus):
        return "star", f"the consensus {consensus!r} checks every single update"
    if needs_single_updates(strategy):
        return "star", f"the strategy {strategy!r} needs every single update"
    if consensus == "gossip":
        return ("gossip", None) if workers > 1 else ("star", "a single worker has no peer")
    if secure:
        return "star", "secure aggregation: the aggregator adds up masked updates"
    if partial:
        return "star", "only a part of each model is sent"
    if workers < 2:
        return "star", "a single worker has no peer"
    return topology, None


def matching(topology: Topology, workers: Sequence[str], seed: int, number: int) -> list[list[str]]:
    """Return the groups of workers that exchange models in round `number`.

    The seed draws pairs along the topology's edges, until no edge has two free ends. Each worker
    that is left over is a group of one. Every worker is in exactly one group.
    """
    shuffled = edges(topology, workers, None)
    random.Random(f"{seed}/{number}").shuffle(shuffled)  # noqa: S311 - every call must repeat the draw; it is no secret
    pairs: list[list[str]] = []
    free = set(workers)
    for edge in shuffled:
        if {edge.source, edge.target} <= free:
            pairs.append([edge.source, edge.target])
            free -= {edge.source, edge.target}
    return pairs + [[worker] for worker in workers if worker in free]


def edges(topology: Topology, workers: Sequence[str], aggregator: str | None) -> list[Edge]:
    """Return the edges of a topology.

    - mesh: every unordered pair of workers, n(n-1)/2 edges
    - ring: each worker to the next, the last to the first (two workers: one edge)
    - star: the aggregator to each worker
    - hierarchical: the members of each group to its head, and the heads to the aggregator

    In a mesh and a ring, the aggregator adds one edge to "all".
    """
    result: list[Edge] = []
    match topology:
        case "mesh":
            result = [Edge(a, b) for a, b in combinations(workers, 2)]
        case "ring":
            result = [Edge(a, b) for a, b in pairwise(workers)]
            if len(workers) > 2:
                result.append(Edge(workers[-1], workers[0]))
        case "star":
            return [Edge(aggregator, worker) for worker in workers] if aggregator else []
        case "hierarchical":
            for head, *members in groups(workers):
                result += [Edge(member, head) for member in members]
                if aggregator:
                    result.append(Edge(head, aggregator))
            return result
    if aggregator:
        result.append(Edge(aggregator, "all"))
    return result

"""Which nodes talk to which, for each topology: pure functions from ordered worker ids to edges."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from math import isqrt
from typing import Literal

from api.domain.consensus import judges
from api.domain.strategies import needs_single_updates

Topology = Literal["mesh", "ring", "star", "hierarchical"]
TOPOLOGIES: tuple[Topology, ...] = ("mesh", "ring", "star", "hierarchical")


@dataclass(frozen=True, slots=True)
class Edge:
    source: str
    target: str


def groups(workers: Sequence[str]) -> list[list[str]]:
    """Split workers into about sqrt(n) groups of nearly equal size; the first of each group is its head."""
    if not workers:
        return []
    count = max(1, isqrt(len(workers)))
    return [list(workers[i::count]) for i in range(count)]


def data_path(
    topology: str, workers: int, consensus: str, strategy: str, *, partial: bool = False, secure: bool = False
) -> tuple[str, str | None]:
    """Which way a round's updates go, and why it is not the topology's own where it is a star instead.

    A mean can be made on the way; a strategy or a consensus that looks at every update by itself needs them all in one place.
    `partial`: updates are compressed or leave frozen layers out, which is made whole again where they are collected. `secure`:
    updates are masked for the one who adds them up.
    """
    if topology == "star":
        return "star", None
    if judges(consensus):
        return "star", f"the consensus {consensus!r} judges every update by itself"
    if needs_single_updates(strategy):
        return "star", f"the strategy {strategy!r} looks at every update by itself"
    if consensus == "gossip":
        return ("gossip", None) if workers > 1 else ("star", "one worker has nobody to exchange with")
    if secure:
        return "star", "secure aggregation: masked updates are added up at the aggregator"
    if partial:
        return "star", "only a part of each model travels"
    if workers < 2:
        return "star", "one worker has nobody to exchange with"
    return topology, None


def matching(topology: Topology, workers: Sequence[str], seed: int, number: int) -> list[list[str]]:
    """Which workers meet in round `number`: pairs along the topology's edges, drawn by the seed until no edge has both its ends
    free; who is left over stands alone. Every worker is in exactly one group."""
    drawn = edges(topology, workers, None)
    random.Random(f"{seed}/{number}").shuffle(drawn)  # noqa: S311 - a draw that every look at the round repeats, no secret
    found: list[list[str]] = []
    free = set(workers)
    for edge in drawn:
        if {edge.source, edge.target} <= free:
            found.append([edge.source, edge.target])
            free -= {edge.source, edge.target}
    return found + [[worker] for worker in workers if worker in free]


def edges(topology: Topology, workers: Sequence[str], aggregator: str | None) -> list[Edge]:
    """The edges of a topology.

    mesh: every unordered pair of workers, n(n-1)/2 edges. ring: each worker to the next, the last to the first
    (two workers: one edge). star: the aggregator to each worker. hierarchical: each group's members to its head, the
    heads to the aggregator. In a mesh and a ring the aggregator adds one edge to "all".
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

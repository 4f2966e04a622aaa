from collections import Counter
from itertools import chain
from math import isqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.domain.topology import Topology, data_path, edges, groups, matching
from api.domain.words import words_of

TOPOLOGIES: tuple[Topology, ...] = words_of(Topology)
workers = st.integers(1, 40).map(lambda count: [f"w{i}" for i in range(count)])


def pairs(topology: str, names: list[str], aggregator: str | None = "ps") -> list[tuple[str, str]]:
    return [(edge.source, edge.target) for edge in edges(topology, names, aggregator)]  # type: ignore[arg-type]


def test_mesh_of_four_is_the_contracts_example() -> None:
    assert pairs("mesh", ["w1", "w2", "w3", "w4"]) == [
        ("w1", "w2"),
        ("w1", "w3"),
        ("w1", "w4"),
        ("w2", "w3"),
        ("w2", "w4"),
        ("w3", "w4"),
        ("ps", "all"),
    ]


def test_ring_closes() -> None:
    assert pairs("ring", ["w1", "w2", "w3"]) == [("w1", "w2"), ("w2", "w3"), ("w3", "w1"), ("ps", "all")]


def test_ring_of_two_has_one_edge() -> None:
    assert pairs("ring", ["w1", "w2"], None) == [("w1", "w2")]


def test_star_links_the_aggregator_to_each_worker() -> None:
    assert pairs("star", ["w1", "w2"]) == [("ps", "w1"), ("ps", "w2")]


def test_hierarchy_of_nine_has_three_heads() -> None:
    names = [f"w{i}" for i in range(9)]
    drawn = pairs("hierarchical", names)
    assert [edge for edge in drawn if edge[1] == "ps"] == [("w0", "ps"), ("w1", "ps"), ("w2", "ps")]
    assert len(drawn) == 9


@given(workers)
def test_groups_partition_the_workers_evenly(names: list[str]) -> None:
    parts = groups(names)
    assert sorted(chain.from_iterable(parts)) == sorted(names)
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1


@given(workers, st.sampled_from(TOPOLOGIES))
def test_every_worker_is_reached_and_no_edge_is_doubled(names: list[str], topology: str) -> None:
    drawn = pairs(topology, names)
    undirected = [frozenset(edge) for edge in drawn]
    assert len(set(undirected)) == len(drawn)
    assert all(a != b for a, b in drawn)
    ends = {end for edge in drawn for end in edge}
    assert "all" in ends or set(names) <= ends


@given(workers)
def test_mesh_has_every_pair(names: list[str]) -> None:
    assert len(pairs("mesh", names, None)) == len(names) * (len(names) - 1) // 2


def count(topology: str, size: int, with_aggregator: bool) -> int:
    """Return the number of edges of n workers, computed by hand."""
    ring = {1: 0, 2: 1}.get(size, size)
    mine = {"mesh": size * (size - 1) // 2, "ring": ring, "star": 0, "hierarchical": size - isqrt(size)}[topology]
    theirs = {"mesh": 1, "ring": 1, "star": size, "hierarchical": isqrt(size)}[topology]
    return mine + (theirs if with_aggregator else 0)


@given(workers, st.sampled_from(TOPOLOGIES), st.booleans())
def test_edges_are_as_many_as_by_hand(names: list[str], topology: str, with_aggregator: bool) -> None:
    assert len(pairs(topology, names, "ps" if with_aggregator else None)) == count(topology, len(names), with_aggregator)


@given(workers, st.sampled_from(TOPOLOGIES))
def test_edges_name_workers_the_aggregator_or_all_and_nobody_else(names: list[str], topology: str) -> None:
    for source, target in pairs(topology, names):
        assert source in {*names, "ps"}
        assert target in {*names, "ps", "all"}
        assert (target == "all") <= (source == "ps"), "only the aggregator speaks to all"


@given(workers, st.sampled_from(TOPOLOGIES))
def test_whatever_one_node_knows_can_reach_every_other(names: list[str], topology: str) -> None:
    """The graph of a cluster with an aggregator is connected."""
    links = [(source, name) for source, target in pairs(topology, names) for name in (names if target == "all" else [target])]
    reached = {"ps"}
    while grown := {end for link in links if set(link) & reached for end in link} - reached:
        reached |= grown
    assert reached == {*names, "ps"}


@given(workers)
def test_in_a_ring_every_worker_has_two_neighbours(names: list[str]) -> None:
    ends = Counter(end for edge in pairs("ring", names, None) for end in edge)
    expected = {1: 0, 2: 1}.get(len(names), 2)
    assert all(ends[name] == expected for name in names)


@given(workers, st.sampled_from(TOPOLOGIES))
def test_a_drawing_is_the_same_each_time(names: list[str], topology: str) -> None:
    assert pairs(topology, names) == pairs(topology, list(names))


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_no_workers_have_no_edges_between_them(topology: str) -> None:
    assert pairs(topology, [], None) == []
    assert groups([]) == []


@pytest.mark.parametrize("topology", ["mesh", "ring", "hierarchical"])
def test_a_mean_takes_the_topologys_own_way_and_all_else_a_star_with_a_reason(topology: str) -> None:
    assert data_path(topology, 4, "none", "fedavg") == (topology, None)
    for workers, consensus, strategy, partial in (
        (1, "none", "fedavg", False),
        (4, "proof-of-learning", "fedavg", False),
        (4, "none", "median", False),
        (4, "none", "fedavg", True),
    ):
        way, reason = data_path(topology, workers, consensus, strategy, partial=partial)
        assert way == "star"
        assert reason
    assert data_path("star", 1, "proof-of-learning", "median", partial=True) == ("star", None)


@pytest.mark.parametrize("topology", ["mesh", "ring"])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8, 9])
def test_a_matching_pairs_neighbours_and_leaves_nobody_out(topology: Topology, count: int) -> None:
    workers = [f"w{number}" for number in range(count)]
    drawn = [matching(topology, workers, 7, number) for number in range(1, 40)]
    edge_set = {frozenset((edge.source, edge.target)) for edge in edges(topology, workers, None)}
    for groups_ in drawn:
        assert sorted(worker for group in groups_ for worker in group) == workers
        pairs = [frozenset(group) for group in groups_ if len(group) == 2]
        assert all(len(group) in (1, 2) for group in groups_)
        assert {*pairs} <= edge_set
        alone = {group[0] for group in groups_ if len(group) == 1}
        assert not any(edge <= alone for edge in edge_set), "two neighbours stand idle"
    if count > 2:
        assert len({frozenset(map(frozenset, groups_)) for groups_ in drawn}) > 1, "other pairs in other rounds"
    assert matching(topology, workers, 7, 3) == drawn[2]


def test_gossip_is_a_data_path_of_its_own() -> None:
    assert data_path("mesh", 4, "gossip", "fedavg") == ("gossip", None)
    assert data_path("ring", 1, "gossip", "fedavg")[0] == "star"
    assert data_path("ring", 4, "raft", "fedavg") == ("ring", None)

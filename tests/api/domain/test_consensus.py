from typing import Any

import pytest

from api.domain.consensus import Consensus, check_topology, majority
from api.domain.errors import InvalidError
from api.schemas.trainings import TrainingCreate


def check(mode: Consensus, workers: int, fields: dict[str, Any]) -> None:
    TrainingCreate(**{"dataset": "/data/x.json", "epochs": 1, **fields}).spec().check_workers(workers, mode)


@pytest.mark.parametrize(
    ("mode", "workers", "fields", "pointer"),
    [
        ("byzantine", 8, {"strategy": "krum"}, "/strategy"),
        ("byzantine", 8, {"strategy": "median"}, "/strategy"),
        ("byzantine", 2, {}, "/strategy"),
        ("byzantine", 8, {"fraction": 0.25}, "/strategy"),
        ("gossip", 4, {"strategy": "fedadam"}, "/strategy"),
        ("gossip", 4, {"fraction": 0.5}, "/fraction"),
        ("gossip", 4, {"compression": "int8"}, "/compression"),
        ("gossip", 4, {"freeze_layers": 1}, "/compression"),
    ],
)
def test_what_a_consensus_cannot_be_combined_with_is_refused(
    mode: Consensus, workers: int, fields: dict[str, Any], pointer: str
) -> None:
    with pytest.raises(InvalidError) as caught:
        check(mode, workers, fields)
    assert caught.value.code == "consensus_conflict"
    assert [error.pointer for error in caught.value.errors] == [pointer]


@pytest.mark.parametrize(
    ("mode", "workers", "fields"),
    [
        ("none", 1, {"strategy": "fedadam"}),
        ("proof-of-learning", 5, {"strategy": "krum"}),
        ("byzantine", 3, {}),
        ("gossip", 4, {"strategy": "fedprox"}),
        ("raft", 4, {"strategy": "fedadam", "fraction": 0.5, "compression": "topk"}),
        ("byzantine", 4, {"strategy": "fedadam", "compression": "int8"}),
    ],
)
def test_what_a_consensus_can_be_combined_with_is_taken(mode: Consensus, workers: int, fields: dict[str, Any]) -> None:
    check(mode, workers, fields)


@pytest.mark.parametrize("topology", ["star", "hierarchical"])
def test_gossip_needs_edges_between_workers(topology: str) -> None:
    with pytest.raises(InvalidError) as caught:
        check_topology("gossip", topology)
    assert [error.pointer for error in caught.value.errors] == ["/topology"]
    check_topology("raft", topology)
    check_topology("gossip", "ring")


def test_a_majority_is_more_than_half() -> None:
    assert [majority(workers) for workers in (1, 2, 3, 4, 5)] == [1, 2, 2, 3, 3]

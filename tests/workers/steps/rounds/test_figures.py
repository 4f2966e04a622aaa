"""The metrics of a round: only what was measured."""

import pytest

from api.store.tables import RoundRow
from workers.agent.protocol.aggregation import AggregateReport
from workers.steps.rounds.figures import RoundFigures


def report(**fields: object) -> AggregateReport:
    return AggregateReport.model_validate({"node_id": "ps", "training_id": "t", "round": 1, "state": "done", **fields})


def test_phases_bytes_and_updates() -> None:
    row = RoundRow(seconds=10.0, train_seconds=6.0, consensus_seconds=0.5, aggregate_seconds=1.0, evaluate_seconds=1.5)
    row.links = [
        {"from": "w1", "to": "ps", "bytes": 100, "seconds": 0.1},
        {"from": "w2", "to": "ps", "bytes": 50, "seconds": 0.1},
        {"from": "ps", "to": "w1", "bytes": 7, "seconds": 0.1},
        {"from": "w1", "to": "w2", "bytes": 3, "seconds": 0.1},
    ]
    figures = RoundFigures.of(row, report(accepted=["w1", "w2"], rejected={"w3": "far"}, late=["w4"]))
    assert figures.phases == {
        "training": 6.0,
        "consensus": 0.5,
        "aggregation": 1.0,
        "evaluation": 1.5,
        "transfer_and_waiting": pytest.approx(1.0),
    }
    assert figures.bytes == {"to_aggregator": 150, "from_aggregator": 7, "between_workers": 3}
    assert figures.updates == {"accepted": 2, "rejected": 1, "late": 1}


def test_what_was_not_measured_is_absent() -> None:
    figures = RoundFigures.of(RoundRow(links=[], train_seconds=2.0), report())
    assert (figures.seconds, figures.phases) == (None, {"training": 2.0})

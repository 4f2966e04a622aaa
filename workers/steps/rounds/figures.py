"""The metrics of a completed round, from its row and the aggregator's report."""

from dataclasses import dataclass

from api.store.tables import RoundRow
from workers import metrics
from workers.agent.protocol.aggregation import AggregateReport


@dataclass(frozen=True, slots=True)
class RoundFigures:
    """What is counted once the transaction is committed. What was not measured is absent."""

    seconds: float | None
    phases: dict[str, float]
    bytes: dict[str, int]
    updates: dict[str, int]

    @classmethod
    def of(cls, row: RoundRow, aggregate: AggregateReport) -> "RoundFigures":
        measured = {
            "training": row.train_seconds,
            "consensus": row.consensus_seconds,
            "aggregation": row.aggregate_seconds,
            "evaluation": row.evaluate_seconds,
        }
        phases = {phase: seconds for phase, seconds in measured.items() if seconds is not None}
        seconds = None if row.seconds is None else float(row.seconds)
        if seconds is not None:
            phases["transfer_and_waiting"] = max(0.0, seconds - sum(phases.values()))
        moved = {"to_aggregator": 0, "from_aggregator": 0, "between_workers": 0}
        for link in row.links:
            moved[_direction(link["from"], link["to"], aggregate.node_id)] += link["bytes"]
        updates = {"accepted": len(aggregate.accepted), "rejected": len(aggregate.rejected), "late": len(aggregate.late)}
        return cls(seconds, phases, moved, updates)

    def count(self) -> None:
        if self.seconds is not None:
            metrics.ROUND_SECONDS.observe(self.seconds)
        for phase, seconds in self.phases.items():
            metrics.ROUND_PHASE_SECONDS.labels(phase).observe(seconds)
        for direction, moved in self.bytes.items():
            metrics.ROUND_BYTES.labels(direction).inc(moved)
        for outcome, number in self.updates.items():
            metrics.ROUND_UPDATES.labels(outcome).inc(number)


def _direction(source: str, target: str, aggregator: str) -> str:
    if target == aggregator:
        return "to_aggregator"
    return "from_aggregator" if source == aggregator else "between_workers"

"""What one step of a round has observed at the agents."""

from collections.abc import Iterable, Sequence

from workers.agent.protocol.aggregation import AggregateReport
from workers.agent.protocol.common import LinkUse
from workers.agent.protocol.inference import EvaluationResult
from workers.agent.protocol.training import ReplicateResult, TrainReport


class RoundObservation:
    """What the agents have reported in one step. Tasks that run side by side add to it.

    It changes through its methods only. Each dictionary maps a worker's id to the reason.

    - `aggregate`: the aggregator's newest report. None while the aggregator cannot be reached.
    - `reports`: each worker's newest report of its own training.
    - `unreachable`: workers that did not answer. `lost`: workers that will not come back.
    - `failed`, `declined`: workers that leave this round.
    - `silent`: workers that did not say in time whether they have a copy of the new model.
    - `copies`: workers that hold the new model. `links`: the transfers that this took.
    - `evaluations`: measurements of the new model. `evaluated_by` names their kind.
    """

    def __init__(self, lost: Iterable[str] = ()) -> None:
        self.aggregate: AggregateReport | None = None
        self.reports: dict[str, TrainReport] = {}
        self.unreachable: dict[str, str] = {}
        self.lost = dict.fromkeys(lost, "its sandbox no longer exists")
        self.failed: dict[str, str] = {}
        self.declined: dict[str, str] = {}
        self.dropped: set[str] = set()
        self.silent: set[str] = set()
        self.copies: list[str] = []
        self.links: list[LinkUse] = []
        self.evaluations: Sequence[EvaluationResult] = ()
        self.evaluated_by: str | None = None
        self.evaluate_seconds: float | None = None

    @property
    def is_collecting(self) -> bool:
        return self.aggregate is not None and self.aggregate.state == "collecting"

    @property
    def is_done(self) -> bool:
        return self.aggregate is not None and self.aggregate.state == "done"

    @property
    def has_failed_for_good(self) -> bool:
        """Whether the round has failed and would fail again.

        A round with late updates may succeed: their workers have them ready by now.
        """
        return self.aggregate is not None and self.aggregate.state == "failed" and not self.aggregate.late

    @property
    def to_drop(self) -> list[str]:
        """Workers that left the round while the aggregator still waits for them."""
        received = {report.node_id for report in self.aggregate.received} if self.aggregate is not None else set()
        return [node_id for node_id in (*self.failed, *self.declined) if node_id not in received | self.dropped]

    def waits_for(self, node_id: str) -> bool:
        """Whether the aggregator still waits for an update of this worker."""
        report = self.aggregate
        if report is None or report.state != "collecting":
            return False
        return node_id not in {*(received.node_id for received in report.received), *report.rejected}

    def add_aggregate_report(self, report: AggregateReport) -> None:
        self.aggregate = report

    def lose_aggregator(self) -> None:
        """The aggregator stopped answering, so nothing that it reported counts."""
        self.aggregate = None

    def add_report(self, node_id: str, report: TrainReport) -> None:
        self.reports[node_id] = report

    def set_unreachable(self, node_id: str, reason: str) -> None:
        self.unreachable[node_id] = reason

    def set_failed(self, node_id: str, reason: str) -> None:
        self.failed[node_id] = reason

    def set_declined(self, node_id: str, reason: str) -> None:
        self.declined[node_id] = reason

    def set_silent(self, node_id: str) -> None:
        self.silent.add(node_id)

    def replica_of(self, node_id: str) -> ReplicateResult | None:
        """The worker's copy of the new model, if the worker has fetched it in the round itself."""
        report = self.reports.get(node_id)
        if report is None or report.replica is None or self.aggregate is None:
            return None
        return report.replica if report.replica.digest == self.aggregate.digest else None

    def set_dropped(self, node_ids: Iterable[str]) -> None:
        """The aggregator was asked not to wait for these."""
        self.dropped.update(node_ids)

    def add_replicas(self, replicas: Iterable[ReplicateResult]) -> None:
        for replica in replicas:
            self.copies.append(replica.node_id)
            self.links += replica.links
        self.copies.sort()

    def add_evaluations(self, evaluations: Sequence[EvaluationResult], evaluated_by: str | None, seconds: float) -> None:
        self.evaluations = evaluations
        self.evaluated_by = evaluated_by
        self.evaluate_seconds = seconds

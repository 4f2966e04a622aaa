"""A worker's report on one round, and every way in which it changes."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from workers.agent.protocol.common import AgentProblem, Decision, LinkUse, UploadResult
from workers.agent.protocol.training import Commitment, ReplicateResult, TrainReport
from workers.agent.runtime.long_poll import PollableReport, validated_copy


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What local training gave. `loss` and `accuracy` are None with differential privacy."""

    samples: int
    loss: float | None
    accuracy: float | None
    private_steps: int | None
    train_seconds: float
    pull_seconds: float
    commitment: Commitment | None
    decisions: Sequence[Decision]


class WorkerReport(PollableReport[TrainReport]):
    """The round is open while the state is `running`.

    It is settled when it has ended and nothing more is done for it. A worker whose update counts
    first fetches the round's new model.
    """

    def __init__(self, report: TrainReport) -> None:
        super().__init__(report)
        self._settled = asyncio.Event()

    @classmethod
    def begin(cls, node_id: str, training_id: str, number: int, decisions: list[Decision]) -> "WorkerReport":
        """Return the report of a new round. `decisions` were made before the round began."""
        return cls(TrainReport(node_id=node_id, training_id=training_id, round=number, state="running", decisions=decisions))

    @classmethod
    def reopen(cls, ended: TrainReport) -> "WorkerReport":
        """Return the report of a trained round whose update is sent again."""
        return cls(validated_copy(ended, state="running", problem=None))

    def set_progress(self, fraction: float) -> None:
        """Set the share of the round's steps that is done, 0..1."""
        self._update(progress=fraction)

    def set_links(self, links: Sequence[LinkUse]) -> None:
        self._update(links=links)

    def add_decisions(self, *decisions: Decision) -> None:
        self._update(decisions=[*self._report.decisions, *decisions])

    def with_training(self, result: TrainingResult) -> TrainReport:
        """Return the report that travels with the update. This report does not change yet."""
        return validated_copy(
            self._report,
            state="done",
            progress=1.0,
            samples=result.samples,
            loss=result.loss,
            accuracy=result.accuracy,
            private_steps=result.private_steps,
            train_seconds=result.train_seconds,
            pull_seconds=result.pull_seconds,
            commitment=result.commitment,
            decisions=[*self._report.decisions, *result.decisions],
        )

    def record_training(self, trained: TrainReport) -> None:
        """Take over the metrics of `with_training`. The round stays open until the update is sent.

        A push that fails can then be repeated without training.
        """
        self._report = validated_copy(trained, state="running")

    def record_epoch(self, samples: int, loss: float, accuracy: float) -> None:
        """Set the metrics of a synchronous epoch: mean loss in nats, and the fraction right."""
        self._update(samples=samples, loss=loss, accuracy=accuracy)

    def record_steps(self, train_seconds: float, received: Sequence[LinkUse], sent: Sequence[LinkUse]) -> None:
        """Set what all steps of a synchronous round took, and what travelled."""
        self._update(train_seconds=train_seconds, bytes_sent=sum(link.bytes for link in sent), links=[*received, *sent])

    def as_done(self) -> TrainReport:
        """Return the report with the state `done`. This report does not change."""
        return validated_copy(self._report, state="done")

    def finish(self) -> None:
        self._update(state="done")

    def finish_push(self, receipt: UploadResult, seconds: float) -> None:
        """End the round after the aggregator has answered to the update."""
        self._update(state="done", push_seconds=seconds, bytes_sent=receipt.bytes, problem=receipt.problem)

    def finish_exchange(self, seconds: float) -> None:
        """End the round after the update was averaged with other workers."""
        self._update(state="done", push_seconds=seconds)

    def add_replica(self, replica: ReplicateResult) -> None:
        """Add the copy of the round's new model that this worker has now."""
        self._report = validated_copy(self._report, replica=replica)

    def settle(self) -> None:
        self._settled.set()

    async def when_settled(self, within_s: float) -> TrainReport:
        """Return the report once it is settled, or after `within_s` seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._settled.wait()
        return self._report

    def decline(self, decision: Decision) -> None:
        problem = AgentProblem(code="declined", message=decision.reason)
        self._update(state="declined", decisions=[*self._report.decisions, decision], problem=problem)

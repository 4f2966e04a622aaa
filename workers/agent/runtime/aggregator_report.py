"""An aggregator's report on one round, and every way in which it changes."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from workers.agent.protocol.aggregation import AggregateReport
from workers.agent.protocol.common import Decision, LinkUse
from workers.agent.protocol.consensus import AuditRecord, Vote
from workers.agent.protocol.inference import EvaluationResult
from workers.agent.protocol.training import TrainReport
from workers.agent.runtime.long_poll import PollableReport, validated_copy


@dataclass(frozen=True, slots=True)
class PublishedModel:
    """A round's new global model. `accepted` are the node ids whose updates are in it."""

    digest: str
    accepted: Sequence[str]
    aggregate_seconds: float
    links: Sequence[LinkUse]
    validation: EvaluationResult | None
    consensus_distance: float | None = None


class AggregatorReport(PollableReport[AggregateReport]):
    """The round is open while the state is `collecting`."""

    def __init__(self, report: AggregateReport) -> None:
        super().__init__(report)
        self._published: str | None = None
        self._model_known = asyncio.Event()

    def _update(self, **fields: object) -> None:
        super()._update(**fields)
        if not self.is_open:
            self._model_known.set()

    @classmethod
    def begin(cls, node_id: str, training_id: str, number: int, decisions: list[Decision]) -> "AggregatorReport":
        """Return the report of a new round. `decisions` were made before the round began."""
        return cls(
            AggregateReport(node_id=node_id, training_id=training_id, round=number, state="collecting", decisions=decisions)
        )

    def add_notices(self, *notices: str) -> None:
        self._update(notices=[*self._report.notices, *notices])

    def add_received(self, report: TrainReport, bytes_sent: int | None = None) -> None:
        """Add a worker's report. Its links are left out: the round has one list of all links."""
        fields: dict[str, object] = {} if bytes_sent is None else {"bytes_sent": bytes_sent}
        self._update(received=[*self._report.received, validated_copy(report, links=[], **fields)])

    def add_bytes_received(self, count: int) -> None:
        self._update(bytes_received=(self._report.bytes_received or 0) + count)

    def add_rejected(self, reasons: Mapping[str, str]) -> None:
        """Add node ids whose updates do not count, each with its reason."""
        self._update(rejected={**self._report.rejected, **reasons})

    def set_late(self, node_ids: Sequence[str]) -> None:
        self._update(late=node_ids)

    def record_fallback(self, reason: str | None) -> None:
        """Forget what was received. `reason` says why a peer exchange ended; None without one."""
        self._update(received=[], bytes_received=None, fallback=reason)

    def record_consensus(self, votes: Sequence[Vote], audits: Sequence[AuditRecord], seconds: float | None) -> None:
        self._update(votes=votes, audits=audits, consensus_seconds=seconds)

    def publish(self, digest: str) -> None:
        """Announce the new model. The round stays open until `finish`."""
        self._published = digest
        self._model_known.set()

    async def when_published(self, within_s: float) -> str | None:
        """Return the new model's digest once there is one, or what is known after `within_s`
        seconds. The end of the round ends the wait too.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._model_known.wait()
        return self._published

    def finish(self, model: PublishedModel) -> None:
        self._update(
            state="done",
            digest=model.digest,
            accepted=model.accepted,
            consensus_distance=model.consensus_distance,
            aggregate_seconds=model.aggregate_seconds,
            validation=model.validation,
            links=model.links,
        )

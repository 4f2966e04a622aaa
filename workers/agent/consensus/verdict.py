"""Which of a round's updates count, by the cluster's consensus, when all are in."""

import asyncio
import time
from collections.abc import Collection as Names
from dataclasses import dataclass, field

from workers.agent.collection import Collection
from workers.agent.consensus.auditing import Auditor
from workers.agent.consensus.committee import rejected
from workers.agent.consensus.voting import vote
from workers.agent.exchange import Exchange
from workers.agent.logs import Log
from workers.agent.protocol import AuditRecord, Vote
from workers.agent.store import Store


@dataclass(frozen=True, slots=True)
class Verdict:
    """`seconds` is what the judging took; None where nobody judges."""

    accepted: list[str]
    rejected: dict[str, str] = field(default_factory=dict)
    votes: list[Vote] = field(default_factory=list)
    audits: list[AuditRecord] = field(default_factory=list)
    seconds: float | None = None


class Jury:
    def __init__(self, store: Store, exchange: Exchange, log: Log) -> None:
        self._exchange = exchange
        self._log = log
        self._auditor = Auditor(store, exchange, log)

    async def judge(self, found: Collection, frozen: Names[str]) -> Verdict:
        """`frozen` are the tensors that training leaves as they are."""
        if found.held and found.request.consensus == "proof-of-learning":
            return await self._by_evidence(found, frozen)
        return Verdict([report.node_id for report in found.report.received])

    async def _by_evidence(self, found: Collection, frozen: Names[str]) -> Verdict:
        started = time.perf_counter()
        votes, audits = await asyncio.gather(vote(found, self._exchange, self._log), self._auditor.audit(found, frozen))
        refused = dict(rejected(list(found.held), votes))
        refused |= {audit.worker: audit.reason for audit in audits if audit.reason is not None}
        return Verdict(
            [node_id for node_id in found.held if node_id not in refused],
            refused,
            votes,
            audits,
            time.perf_counter() - started,
        )

"""Which of a round's updates count, by the cluster's consensus, when all are in."""

import asyncio
import time
from collections.abc import Collection
from dataclasses import dataclass, field

from workers.agent.aggregator.consensus import byzantine
from workers.agent.aggregator.consensus.auditing import Auditor
from workers.agent.aggregator.consensus.committee import rejected
from workers.agent.aggregator.consensus.update_length import OUT_OF_REACH, too_long
from workers.agent.aggregator.consensus.voting import vote
from workers.agent.aggregator.round_state import RoundState
from workers.agent.peers.client import PeerClient
from workers.agent.protocol.consensus import AuditRecord, Vote
from workers.agent.runtime.logs import Log
from workers.agent.storage import tensors
from workers.agent.storage.model_store import ModelStore
from workers.agent.strategies.registry import CombineRule


@dataclass(frozen=True, slots=True)
class FilterResult:
    """`rule` combines the accepted updates where the consensus says how. `seconds` is what the judging took; None where nobody
    judges."""

    accepted: list[str]
    rejected: dict[str, str] = field(default_factory=dict)
    votes: list[Vote] = field(default_factory=list)
    audits: list[AuditRecord] = field(default_factory=list)
    rule: CombineRule | None = None
    notices: list[str] = field(default_factory=list)
    seconds: float | None = None


class UpdateFilter:
    def __init__(self, store: ModelStore, exchange: PeerClient, log: Log) -> None:
        self._peers = exchange
        self._log = log
        self._auditor = Auditor(store, exchange, log)

    async def judge(self, found: RoundState, frozen: Collection[str]) -> FilterResult:
        """`frozen` are the tensors that training leaves as they are."""
        if found.held and found.request.consensus == "proof-of-learning":
            return await self._by_evidence(found, frozen)
        if found.held and found.request.consensus == "byzantine":
            return await asyncio.to_thread(_by_distance, found)
        return FilterResult([report.node_id for report in found.report.received])

    async def _by_evidence(self, found: RoundState, frozen: Collection[str]) -> FilterResult:
        started = time.perf_counter()
        votes, audits = await asyncio.gather(vote(found, self._peers, self._log), self._auditor.audit(found, frozen))
        steps = {node_id: sum(report.commitment.steps) for node_id, (report, _) in found.held.items() if report.commitment}
        far = too_long({node_id: (found.lengths[node_id], count) for node_id, count in steps.items()})
        refused = dict(rejected(list(found.held), votes)) | dict.fromkeys(far, OUT_OF_REACH)
        refused |= {audit.worker: audit.reason for audit in audits if audit.reason is not None}
        return FilterResult(
            [node_id for node_id in found.held if node_id not in refused],
            refused,
            votes,
            audits,
            seconds=time.perf_counter() - started,
        )


def _by_distance(found: RoundState) -> FilterResult:
    started = time.perf_counter()
    names = sorted(found.held)
    choice = byzantine.choose([tensors.LazyState(found.held[node_id][1]) for node_id in names])
    accepted = [names[index] for index in choice.accepted]
    refused = {names[index]: byzantine.OUTLIER for index in choice.outliers}
    left_out = [node_id for node_id in names if node_id not in accepted and node_id not in refused]
    how = f"Multi-Krum for f = {byzantine.tolerated(len(names))}" if byzantine.tolerated(len(names)) else "the median"
    notices = [f"{len(names)} updates were combined by {how}"]
    if left_out:
        notices.append(f"not refused, but not among the nearest and so not averaged: {', '.join(left_out)}")
    seconds = time.perf_counter() - started
    return FilterResult(accepted, refused, rule=choice.rule, notices=notices, seconds=seconds)

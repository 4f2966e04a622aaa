"""The cluster's consensus decides which of a round's updates count, once all have arrived."""

import asyncio
import time
from collections.abc import Collection

from workers.agent.aggregator.consensus import byzantine
from workers.agent.aggregator.consensus.auditing import Auditor
from workers.agent.aggregator.consensus.committee import rejected
from workers.agent.aggregator.consensus.update_length import OUT_OF_REACH, too_long
from workers.agent.aggregator.consensus.voting import vote
from workers.agent.aggregator.filter_result import FilterResult
from workers.agent.aggregator.round_state import RoundState
from workers.agent.context import AgentContext
from workers.agent.storage import tensors


class UpdateFilter:
    def __init__(self, context: AgentContext) -> None:
        self._peers = context.peers
        self._log = context.log
        self._auditor = Auditor(context)

    async def judge(self, round_state: RoundState, frozen: Collection[str]) -> FilterResult:
        """Judge the held updates. `frozen` are the tensors that training does not change."""
        consensus = round_state.request.consensus
        if round_state.held and consensus == "proof-of-learning":
            return await self._by_evidence(round_state, frozen)
        if round_state.held and consensus == "byzantine":
            return await asyncio.to_thread(_by_distance, round_state)
        return FilterResult([report.node_id for report in round_state.report.current.received])

    async def _by_evidence(self, round_state: RoundState, frozen: Collection[str]) -> FilterResult:
        started = time.perf_counter()
        held = round_state.held
        votes, audits = await asyncio.gather(
            vote(round_state, self._peers, self._log), self._auditor.audit(round_state, frozen)
        )
        lengths = {
            node_id: (update.length, sum(update.report.commitment.steps))
            for node_id, update in held.items()
            if update.report.commitment is not None
        }
        reasons = dict(rejected(list(held), votes)) | dict.fromkeys(too_long(lengths), OUT_OF_REACH)
        reasons |= {audit.worker: audit.reason for audit in audits if audit.reason is not None}
        accepted = [node_id for node_id in held if node_id not in reasons]
        return FilterResult(accepted, reasons, votes, audits, seconds=time.perf_counter() - started)


def _by_distance(round_state: RoundState) -> FilterResult:
    started = time.perf_counter()
    names = sorted(round_state.held)
    choice = byzantine.choose([tensors.LazyState(round_state.held[node_id].path) for node_id in names])
    accepted = [names[index] for index in choice.accepted]
    reasons = {names[index]: byzantine.OUTLIER for index in choice.outliers}
    left_out = [node_id for node_id in names if node_id not in accepted and node_id not in reasons]
    tolerated = byzantine.tolerated(len(names))
    rule = f"Multi-Krum for f = {tolerated}" if tolerated else "the median"
    notices = [f"{len(names)} updates were combined by {rule}"]
    if left_out:
        notices.append(f"not refused, but not among the nearest and so not averaged: {', '.join(left_out)}")
    seconds = time.perf_counter() - started
    return FilterResult(accepted, reasons, rule=choice.rule, notices=notices, seconds=seconds)

"""The secure sum of a round at the aggregator, in phases with a deadline each.

keys       every worker sends its public keys; ends with the round's deadline
shares     every worker's secrets go to the others as encrypted shares
updates    masked updates arrive and are added up
unmasking  the workers that sent an update reveal shares; the masks are removed from the sum
"""

import asyncio
from collections.abc import Callable, Collection
from contextlib import suppress

import torch

from workers.agent.protocol.secure_aggregation import (
    LEAST_WORKERS,
    AdvertiseKeys,
    AskSurvivors,
    RevealShares,
    RosterResult,
    ShareSecrets,
    SharesResult,
    SurvivorsResult,
    threshold_for,
)
from workers.agent.runtime.errors import AgentError
from workers.agent.secure_aggregation.fixed_point import FixedPointVector
from workers.agent.secure_aggregation.summing import MaskedSum

PHASES = ("keys", "shares", "updates", "unmasking", "over")
# Training is over by then. Only small messages and one upload remain.
_PHASE_S = 60.0


class SecureRound:
    """The phases of one secure sum.

    Use it from the event loop's thread. Only `add` and `mean_change` may run in other threads.
    """

    def __init__(self, run: str, workers: Collection[str]) -> None:
        self._run = run
        self._phase = "keys"
        self._waiting = set(workers)
        self._dropped: set[str] = set()
        self._news = asyncio.Event()
        self._keys: dict[str, AdvertiseKeys] = {}
        self._sealed: dict[str, dict[str, str]] = {}
        self._revealed: dict[str, RevealShares] = {}
        self._sum: MaskedSum | None = None
        self.problem: AgentError | None = None

    @property
    def is_over(self) -> bool:
        return self._phase == "over"

    @property
    def survivors(self) -> list[str]:
        return sorted(self._sum.added) if self._sum else []

    @property
    def departed(self) -> list[str]:
        """Return the workers that shared secrets but sent no update."""
        return sorted(self._sealed.keys() - set(self.survivors))

    def samples_of(self, node_id: str) -> int:
        return self._keys[node_id].samples

    def expects(self, node_id: str) -> bool:
        """Return whether the masked update of this worker is awaited."""
        return self._phase == "updates" and node_id in self._waiting

    async def run(self, deadline_s: float) -> None:
        """Run all phases. `problem` says why the sum ended early."""
        for seconds in (deadline_s, _PHASE_S, _PHASE_S, _PHASE_S):
            phase = self._phase
            await self._wait_until(lambda phase=phase: not self._waiting or self._phase != phase, seconds)  # type: ignore[misc]
            if self.is_over:
                return
            self._next()

    def fail(self, problem: AgentError) -> None:
        if not self.is_over:
            self.problem, self._phase = problem, "over"
            self._wake()

    def drop(self, node_ids: Collection[str]) -> None:
        """Stop waiting for these workers."""
        self._dropped |= set(node_ids)
        self._waiting -= set(node_ids)
        self._wake()

    def _next(self) -> None:
        threshold = threshold_for(len(self._keys))
        present: Collection[str]
        match self._phase:
            case "keys":
                present, least = self._keys, LEAST_WORKERS
            case "shares":
                present, least = self._sealed, threshold
                self._sum = MaskedSum(self._run, list(self._keys.values()), self._sealed)
            case "updates":
                present, least = self.survivors, threshold
            case _:
                present, least = self._revealed, threshold
        if len(present) < least:
            message = f"{len(present)} workers were left to exchange {self._phase}; {least} are needed, and nothing is unmasked"
            self.fail(AgentError("below_threshold", message))
            return
        self._waiting = set(present) - self._dropped
        self._phase = PHASES[PHASES.index(self._phase) + 1]
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def _wait_until(self, condition: Callable[[], bool], seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not condition():
                    await self._news.wait()

    async def _has_ended(self, phase: str, wait_s: float) -> bool:
        """Wait up to `wait_s` for the end of `phase`; return whether it has ended.

        Raises:
            AgentError: `sum_failed` when the sum has ended without a result.
        """
        number = PHASES.index(phase)
        await self._wait_until(lambda: PHASES.index(self._phase) > number, wait_s)
        if self.problem is not None:
            raise AgentError("sum_failed", self.problem.message, 409)
        return PHASES.index(self._phase) > number

    def mark_received(self, node_id: str) -> None:
        """Note that the message of this phase has arrived from this worker."""
        self._waiting.discard(node_id)
        self._wake()

    async def add_keys(self, body: AdvertiseKeys, wait_s: float) -> RosterResult:
        if self._phase == "keys" and (body.node_id in self._waiting or body.node_id in self._keys):
            self._keys[body.node_id] = body
            self.mark_received(body.node_id)
        if not await self._has_ended("keys", wait_s):
            return RosterResult(closed=False)
        return RosterResult(closed=True, members=list(self._keys.values()))

    async def add_shares(self, body: ShareSecrets, wait_s: float) -> SharesResult:
        if self._phase == "shares" and body.node_id in self._waiting:
            self._sealed[body.node_id] = body.shares
            self.mark_received(body.node_id)
        if not await self._has_ended("shares", wait_s):
            return SharesResult(closed=False)
        shares_for_worker = {sender: shares[body.node_id] for sender, shares in self._sealed.items() if body.node_id in shares}
        return SharesResult(closed=True, shares=shares_for_worker)

    def add(self, node_id: str, masked: FixedPointVector) -> None:
        """Add a masked update to the sum.

        Raises:
            AgentError: `not_expected` when the sum takes no updates yet.
        """
        if self._sum is None:
            raise AgentError("not_expected", "no masked update is expected")
        self._sum.add(node_id, masked)

    async def report_survivors(self, _: AskSurvivors, wait_s: float) -> SurvivorsResult:
        if not await self._has_ended("updates", wait_s):
            return SurvivorsResult(closed=False)
        return SurvivorsResult(closed=True, node_ids=self.survivors)

    async def add_revealed_shares(self, body: RevealShares, _: float) -> SurvivorsResult:
        if self._phase == "unmasking" and body.node_id in self._waiting:
            self._revealed[body.node_id] = body
            self.mark_received(body.node_id)
        return SurvivorsResult(closed=True, node_ids=self.survivors)

    def mean_change(self) -> torch.Tensor:
        """Return the mean change of the model: fp64, flat.

        Raises:
            AgentError: `below_threshold`, `bad_shares`.
        """
        if self.problem is not None or self._sum is None:
            raise self.problem or AgentError("below_threshold", "no sum was made")
        return self._sum.mean_change(list(self._revealed.values()))

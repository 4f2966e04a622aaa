"""A round's secure sum at the aggregator: phase after phase, each with a time of its own.

keys       every worker sends public keys; ends with the round's deadline
shares     shares of every worker's secrets go to the others
updates    masked updates come and are added up
unmasking  those who have sent tell their shares, and the masks come out of the sum
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
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
# Training is done by then: what is left is small messages, and one upload.
_PHASE_S = 60.0


class SecureRound:
    """Only for the event loop's thread, but for `add` and `change`."""

    def __init__(self, run: str, workers: Collection[str]) -> None:
        self._run = run
        self._phase = "keys"
        self._waiting = set(workers)
        self._dropped: set[str] = set()
        self._news = asyncio.Event()
        self._keys: dict[str, AdvertiseKeys] = {}
        self._sealed: dict[str, dict[str, str]] = {}
        self._told: dict[str, RevealShares] = {}
        self._sum: MaskedSum | None = None
        self.problem: AgentError | None = None

    @property
    def is_over(self) -> bool:
        return self._phase == "over"

    @property
    def survivors(self) -> list[str]:
        return sorted(self._sum.added) if self._sum else []

    @property
    def left(self) -> list[str]:
        """Whose masks had to be taken out of the sum without them."""
        return sorted(self._sealed.keys() - set(self.survivors))

    def samples_of(self, node_id: str) -> int:
        return self._keys[node_id].samples

    def expects(self, node_id: str) -> bool:
        return self._phase == "updates" and node_id in self._waiting

    async def run(self, deadline_s: float) -> None:
        """Go through the phases; `problem` says why it ended early."""
        for seconds in (deadline_s, _PHASE_S, _PHASE_S, _PHASE_S):
            phase = self._phase
            await self._until(lambda phase=phase: not self._waiting or self._phase != phase, seconds)  # type: ignore[misc]
            if self.is_over:
                return
            self._next()

    def fail(self, problem: AgentError) -> None:
        if not self.is_over:
            self.problem, self._phase = problem, "over"
            self._wake()

    def drop(self, node_ids: Collection[str]) -> None:
        """Wait for these no longer."""
        self._dropped |= set(node_ids)
        self._waiting -= set(node_ids)
        self._wake()

    def _next(self) -> None:
        threshold = threshold_for(len(self._keys))
        here: Collection[str]
        match self._phase:
            case "keys":
                here, least = self._keys, LEAST_WORKERS
            case "shares":
                here, least = self._sealed, threshold
                self._sum = MaskedSum(self._run, list(self._keys.values()), self._sealed)
            case "updates":
                here, least = self.survivors, threshold
            case _:
                here, least = self._told, threshold
        if len(here) < least:
            message = f"{len(here)} workers were left to exchange {self._phase}; {least} are needed, and nothing is unmasked"
            self.fail(AgentError("below_threshold", message))
            return
        self._waiting = set(here) - self._dropped
        self._phase = PHASES[PHASES.index(self._phase) + 1]
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def _until(self, happened: Callable[[], bool], seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not happened():
                    await self._news.wait()

    async def _after(self, phase: str, wait_s: float) -> bool:
        """Whether `phase` is over, waited for. AgentError `sum_failed` when the sum has ended without a result."""
        number = PHASES.index(phase)
        await self._until(lambda: PHASES.index(self._phase) > number, wait_s)
        if self.problem is not None:
            raise AgentError("sum_failed", self.problem.message, 409)
        return PHASES.index(self._phase) > number

    def _came(self, node_id: str) -> None:
        self._waiting.discard(node_id)
        self._wake()

    async def add_keys(self, body: AdvertiseKeys, wait_s: float) -> RosterResult:
        if self._phase == "keys" and (body.node_id in self._waiting or body.node_id in self._keys):
            self._keys[body.node_id] = body
            self._came(body.node_id)
        if not await self._after("keys", wait_s):
            return RosterResult(closed=False)
        return RosterResult(closed=True, members=list(self._keys.values()))

    async def add_shares(self, body: ShareSecrets, wait_s: float) -> SharesResult:
        if self._phase == "shares" and body.node_id in self._waiting:
            self._sealed[body.node_id] = body.shares
            self._came(body.node_id)
        if not await self._after("shares", wait_s):
            return SharesResult(closed=False)
        boxes = {sender: shares[body.node_id] for sender, shares in self._sealed.items() if body.node_id in shares}
        return SharesResult(closed=True, shares=boxes)

    def add(self, node_id: str, masked: FixedPointVector) -> None:
        if self._sum is None:
            raise AgentError("not_expected", "no masked update is waited for")
        self._sum.add(node_id, masked)

    def mark_received(self, node_id: str) -> None:
        self._came(node_id)

    async def report_survivors(self, _: AskSurvivors, wait_s: float) -> SurvivorsResult:
        if not await self._after("updates", wait_s):
            return SurvivorsResult(closed=False)
        return SurvivorsResult(closed=True, node_ids=self.survivors)

    async def add_revealed_shares(self, body: RevealShares, _: float) -> SurvivorsResult:
        if self._phase == "unmasking" and body.node_id in self._waiting:
            self._told[body.node_id] = body
            self._came(body.node_id)
        return SurvivorsResult(closed=True, node_ids=self.survivors)

    def change(self) -> torch.Tensor:
        """The mean change, flat, fp64. AgentError `below_threshold`, `bad_shares`."""
        if self.problem is not None or self._sum is None:
            raise self.problem or AgentError("below_threshold", "no sum was made")
        told: Sequence[RevealShares] = list(self._told.values())
        return self._sum.change(told)

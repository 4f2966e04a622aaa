"""A worker's messages in a secure sum.

They go to the aggregator over HTTP. It passes on what is for the other workers.
"""

import asyncio
import math
import threading
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from workers.agent.peers.client import PeerClient
from workers.agent.protocol.common import Decision, UploadResult
from workers.agent.protocol.secure_aggregation import (
    AskSurvivors,
    PhaseResult,
    RosterResult,
    ShareSecrets,
    SharesResult,
    SurvivorsResult,
)
from workers.agent.protocol.training import TrainReport, TrainRound
from workers.agent.runtime.errors import AgentError, StoppedError
from workers.agent.runtime.retries import retry
from workers.agent.secure_aggregation import flat
from workers.agent.secure_aggregation.fixed_point import LARGEST
from workers.agent.secure_aggregation.participant import Participant
from workers.agent.storage import tensors
from workers.agent.storage.model_store import ModelStore
from workers.agent.updates import norms
from workers.agent.updates.validation import LARGEST_STEP

_WAIT_S = 10
_WITHIN_S = 40.0
# Between failed polls of one phase.
_PAUSES_S = (0.2, 1.0, 0.0)
_FILE = "masked.safetensors"
T = TypeVar("T", bound=PhaseResult)


class SecureSender:
    """Takes part in the secure sums of a worker's rounds."""

    def __init__(self, node_id: str, exchange: PeerClient, store: ModelStore) -> None:
        self._node_id = node_id
        self._peers = exchange
        self._store = store
        # Training, round and survivors of the last sum that was unmasked.
        self._unmasked: tuple[str, int, frozenset[str]] | None = None

    async def send(
        self, request: TrainRound, report: TrainReport, written: Path, stop: threading.Event
    ) -> tuple[UploadResult, list[Decision]]:
        """Take part until the sum can be unmasked; return the aggregator's answer to the update.

        An update that is not accepted is not in the sum. The other workers continue without it.

        Raises:
            AgentError: `push_failed` when the aggregator does not answer.
                `not_finite` or `norm_exceeded` for an update that must not be in a sum.
                `already_unmasked`.
            StoppedError: once `stop` is set.
        """
        run = f"{request.training_id}/{request.round}"
        participant = Participant(self._node_id, run, report.samples or 0)
        await asyncio.to_thread(self._check, request, written)
        try:
            roster = await self._poll_phase(request, "keys", participant.keys, RosterResult, stop)
            shares = ShareSecrets(node_id=self._node_id, shares=participant.share(roster.members))
            delivered = await self._poll_phase(request, "shares", shares, SharesResult, stop)
            path, clipped = await asyncio.to_thread(self._masked, request, report, written, participant, delivered.shares)
        except AgentError as error:
            if error.code == "not_in_the_sum":
                return UploadResult(accepted=False, bytes=0, problem=error.problem), []
            raise
        receipt = await self._peers.push(request.aggregator, request.training_id, request.round, self._node_id, path)
        if not receipt.accepted:
            return receipt, []
        asking = AskSurvivors(node_id=self._node_id)
        survivors = await self._poll_phase(request, "survivors", asking, SurvivorsResult, stop)
        revealed = participant.reveal(survivors.node_ids)
        self._require_same_survivors(request, survivors.node_ids)
        await self._poll_phase(request, "unmask", revealed, SurvivorsResult, stop)
        return receipt, _decisions(clipped)

    def _require_same_survivors(self, request: TrainRound, survivors: list[str]) -> None:
        """Refuse to unmask a repeated round with other survivors.

        The difference between two sums of the same updates would be the update of a single worker.
        """
        unmasked = (request.training_id, request.round, frozenset(survivors))
        if self._unmasked is not None and self._unmasked[:2] == unmasked[:2] and self._unmasked != unmasked:
            raise AgentError("already_unmasked", "this round's sum of other workers was unmasked before")
        self._unmasked = unmasked

    def _check(self, request: TrainRound, written: Path) -> None:
        """Check the update before it is masked, because nobody can check it afterwards."""
        trained, base = tensors.read(written), tensors.read(self._store.require(request.base_digest))
        distance, base_norm = norms.distance(trained, base)
        if not math.isfinite(distance):
            raise AgentError("not_finite", "the update holds NaN or infinity")
        if distance > LARGEST_STEP * max(1.0, base_norm):
            raise AgentError("norm_exceeded", "the update is too far from the global model")

    def _masked(
        self, request: TrainRound, report: TrainReport, written: Path, participant: Participant, shares: dict[str, str]
    ) -> tuple[Path, int]:
        base = tensors.read(self._store.require(request.base_digest))
        masked, clipped = participant.mask(flat.change(tensors.read(written), base), shares)
        path = written.with_name(_FILE)
        flat.write(path, masked, report.model_dump_json())
        return path, clipped

    async def _poll_phase(self, request: TrainRound, phase: str, body: BaseModel, answer: type[T], stop: threading.Event) -> T:
        """Post a message until the phase is closed; return the answer. Posting twice is safe."""
        path = f"/trainings/{request.training_id}/rounds/{request.round}/secure/{phase}?wait={_WAIT_S}"
        pauses_s = iter(_PAUSES_S)

        async def poll() -> T:
            if stop.is_set():
                raise StoppedError
            return await self._peers.ask(request.aggregator, path, body, answer, within_s=_WITHIN_S)

        while True:
            try:
                result = await retry(poll, pauses_s)
            except AgentError as error:
                raise AgentError("push_failed", error.message, 502) from None
            if result.closed:
                return result


def _decisions(clipped: int) -> list[Decision]:
    if not clipped:
        return []
    return [Decision(action="clip_update", reason=f"{clipped} values changed by more than {LARGEST:g}")]

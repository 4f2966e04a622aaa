"""A worker's part in a secure sum, over HTTP to the aggregator, which passes on what is for the others."""

import asyncio
import math
import threading
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from workers.agent.peers.client import PeerClient
from workers.agent.protocol.common import Decision, UploadResult
from workers.agent.protocol.secure_aggregation import AskSurvivors, RosterResult, ShareSecrets, SharesResult, SurvivorsResult
from workers.agent.protocol.training import TrainReport, TrainRound
from workers.agent.runtime.errors import AgentError, StoppedError
from workers.agent.secure_aggregation import flat
from workers.agent.secure_aggregation.fixed_point import LARGEST
from workers.agent.secure_aggregation.participant import Participant
from workers.agent.storage import tensors
from workers.agent.storage.model_store import ModelStore
from workers.agent.updates import norms
from workers.agent.updates.validation import LARGEST_STEP

_WAIT_S = 10
_WITHIN_S = 40.0
_PAUSES_S = (0.2, 1.0, 0.0)
_FILE = "masked.safetensors"
T = TypeVar("T", bound=BaseModel)


class SecureSender:
    def __init__(self, node_id: str, exchange: PeerClient, store: ModelStore) -> None:
        self._node_id = node_id
        self._peers = exchange
        self._store = store
        self._shown: tuple[str, int, frozenset[str]] | None = None

    async def send(
        self, request: TrainRound, report: TrainReport, written: Path, stop: threading.Event
    ) -> tuple[UploadResult, list[Decision]]:
        """Take part until the sum of the round can be unmasked. Not accepted: the others go on without this worker.

        AgentError `push_failed` when the aggregator does not go on; `not_finite`, `norm_exceeded` for an update that no sum
        should hold; `already_unmasked`. StoppedError.
        """
        run = f"{request.training_id}/{request.round}"
        person = Participant(self._node_id, run, report.samples or 0)
        await asyncio.to_thread(self._check, request, written)
        try:
            roster = await self._closed(request, "keys", person.keys, RosterResult, stop)
            shares = ShareSecrets(node_id=self._node_id, shares=person.share(roster.members))
            delivered = await self._closed(request, "shares", shares, SharesResult, stop)
            path, clipped = await asyncio.to_thread(self._masked, request, report, written, person, delivered.shares)
        except AgentError as error:
            if error.code == "not_in_the_sum":
                return UploadResult(accepted=False, bytes=0, problem=error.problem), []
            raise
        receipt = await self._peers.push(request.aggregator, request.training_id, request.round, self._node_id, path)
        if not receipt.accepted:
            return receipt, []
        asking = AskSurvivors(node_id=self._node_id)
        survivors = await self._closed(request, "survivors", asking, SurvivorsResult, stop)
        told = person.reveal(survivors.node_ids)
        self._remember(request, survivors.node_ids)
        await self._closed(request, "unmask", told, SurvivorsResult, stop)
        return receipt, _decisions(clipped)

    def _remember(self, request: TrainRound, survivors: list[str]) -> None:
        """The difference of two sums of the same updates is somebody's update: a round that is repeated must have the same
        survivors."""
        now = (request.training_id, request.round, frozenset(survivors))
        if self._shown is not None and self._shown[:2] == now[:2] and self._shown != now:
            raise AgentError("already_unmasked", "this round's sum of other workers was unmasked before")
        self._shown = now

    def _check(self, request: TrainRound, written: Path) -> None:
        """Nobody can look at a masked update: what is no honest training's must not go in."""
        trained, base = tensors.read(written), tensors.read(self._store.require(request.base_digest))
        step, own = norms.distance(trained, base)
        if not math.isfinite(step):
            raise AgentError("not_finite", "the update holds NaN or infinity")
        if step > LARGEST_STEP * max(1.0, own):
            raise AgentError("norm_exceeded", "the update is too far from the global model")

    def _masked(
        self, request: TrainRound, report: TrainReport, written: Path, person: Participant, shares: dict[str, str]
    ) -> tuple[Path, int]:
        base = tensors.read(self._store.require(request.base_digest))
        masked, clipped = person.mask(flat.change(tensors.read(written), base), shares)
        path = written.with_name(_FILE)
        flat.write(path, masked, report.model_dump_json())
        return path, clipped

    async def _closed(self, request: TrainRound, phase: str, body: BaseModel, answer: type[T], stop: threading.Event) -> T:
        """The aggregator's answer once the phase is over; posting twice is safe."""
        path = f"/trainings/{request.training_id}/rounds/{request.round}/secure/{phase}?wait={_WAIT_S}"
        pauses = iter(_PAUSES_S)
        while True:
            if stop.is_set():
                raise StoppedError
            try:
                found = await self._peers.ask(request.aggregator, path, body, answer, within_s=_WITHIN_S)
            except AgentError as error:
                pause = next(pauses, None)
                if pause is None:
                    raise AgentError("push_failed", error.message, 502) from None
                await asyncio.sleep(pause)
                continue
            if found.closed:  # type: ignore[attr-defined]
                return found


def _decisions(clipped: int) -> list[Decision]:
    if not clipped:
        return []
    return [Decision(action="clip_update", reason=f"{clipped} values had changed by more than {LARGEST:g}")]

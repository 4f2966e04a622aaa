"""The aggregator in synchronous rounds: deals out the pooled data, keeps the workers in step, and publishes what they end with.

A worker that is lost ends the attempt: the round begins again at its base with those that still answer, and says so. Nothing
of a broken attempt is used, so whatever was counted is what every worker computed together.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from workers.agent.datasets.batches import EncodedTexts
from workers.agent.modeling.cache import ModelCache
from workers.agent.peers.client import PeerClient
from workers.agent.protocol.aggregation import AggregateReport, AggregateRound
from workers.agent.protocol.common import AgentProblem, Decision, LinkUse, StopResult
from workers.agent.protocol.inference import EvaluationResult
from workers.agent.protocol.synchronous import AttemptResult
from workers.agent.protocol.training import Hyperparameters
from workers.agent.runtime.autonomy import take_pending_decisions
from workers.agent.runtime.errors import AgentError, StoppedError
from workers.agent.runtime.logs import Log
from workers.agent.runtime.long_poll import PollableReport
from workers.agent.storage import tensors
from workers.agent.storage.model_store import ModelStore
from workers.agent.synchronous.attempt import Attempt, AttemptRunner, BrokenError, SyncRound
from workers.agent.synchronous.calls import Calls
from workers.agent.synchronous.connections import Inbox
from workers.agent.updates.validation import read_sound_state

_MOST_ATTEMPTS = 5
Validate = Callable[[AggregateRound, str], Awaitable[EvaluationResult | None]]


class SyncCoordinator:
    """One round at a time. `validate` measures a new model on the aggregator's validation file."""

    def __init__(
        self,
        node_id: str,
        exchange: PeerClient,
        store: ModelStore,
        cache: ModelCache,
        validate: Validate,
        log: Log,
        pending_decisions: list[Decision],
    ) -> None:
        self._node_id = node_id
        self._peers = exchange
        self._calls = Calls(exchange)
        self._runner = AttemptRunner(node_id, exchange, self._calls, cache)
        self._store = store
        self._cache = cache
        self._validate = validate
        self._log = log
        self._pending_decisions = pending_decisions
        self._round: SyncRound | None = None

    async def start(self, request: AggregateRound, wanted: Hyperparameters) -> AggregateReport:
        """Begin the round, or report if it has begun. `unknown_model`."""
        found = self._round
        same = found is not None and found.key == (request.training_id, request.round)
        if found is not None and same and found.report.state in ("collecting", "done"):
            return found.report
        self._store.require(request.base_digest)
        if found is None or found.key[0] != request.training_id:
            self._cache.clear_data()
        if found is not None and found.task is not None:
            found.stop.set()
            await asyncio.gather(found.task, return_exceptions=True)
        report = AggregateReport(
            node_id=self._node_id,
            training_id=request.training_id,
            round=request.round,
            state="collecting",
            decisions=take_pending_decisions(self._pending_decisions),
        )
        self._round = made = SyncRound(request, wanted, PollableReport(report, "collecting"))
        made.task = asyncio.create_task(self._run(made))
        return report

    def knows(self, training_id: str, number: int) -> bool:
        return self._round is not None and self._round.key == (training_id, number)

    async def report(self, wait_s: float) -> AggregateReport:
        """Of the round in hand; only where `knows` says so."""
        assert self._round is not None
        return await self._round.watched.closed(wait_s)

    def drop(self, node_ids: Sequence[str]) -> AggregateReport:
        """Go on without these; only where `knows` says so."""
        assert self._round is not None
        found = self._round
        found.dropped |= set(node_ids)
        if found.attempt is not None and any(peer.node_id in found.dropped for peer in found.attempt.peers):
            found.attempt.over.set()
        return found.report

    def stop(self, training_id: str) -> bool:
        found = self._round
        if found is None or found.key[0] != training_id or not found.watched.is_open:
            return False
        found.stop.set()
        found.watched.change(state="stopped")
        return True

    def box(self, attempt: str) -> Inbox | None:
        """Where vectors of that attempt go; None for any but the one in hand."""
        made = self._round.attempt if self._round is not None else None
        return made.box if made is not None and made.box.attempt == attempt else None

    async def ended(self, body: AttemptResult) -> StopResult:
        made = self._round.attempt if self._round is not None else None
        if made is None or made.box.attempt != body.attempt:
            return StopResult(stopped=True)
        made.ended[body.report.node_id] = body
        if body.problem is not None or len(made.ended) == len(made.peers):
            made.over.set()
        return StopResult(stopped=False)

    async def _run(self, found: SyncRound) -> None:
        try:
            async with asyncio.timeout(found.request.deadline_s):
                await self._attempts(found)
        except StoppedError:
            found.watched.change(state="stopped")
        except TimeoutError:
            message = f"the workers were not through by the round's deadline of {found.request.deadline_s:g} s"
            found.watched.change(state="failed", problem=AgentProblem(code="deadline", message=message))
        except AgentError as error:
            found.watched.change(state="failed", problem=error.problem)
        except Exception as error:  # noqa: BLE001 - a round that stays open would be waited for until nobody knows why
            message = f"the round failed with {type(error).__name__}"
            found.watched.change(state="failed", problem=AgentProblem(code="agent_failed", message=message))
        finally:
            found.attempt = None
        if found.report.state != "done":
            await self._calls.stop(found.request.workers, found.request.training_id)
        report = found.report
        self._log("synchronous", round=report.round, state=report.state, workers=len(report.accepted))

    async def _attempts(self, found: SyncRound) -> None:
        data = await asyncio.to_thread(self._pooled, found.request)
        order = found.request.path.peers if found.request.path is not None else found.request.workers
        peers = [peer for peer in order if peer.node_id not in found.dropped]
        for _ in range(_MOST_ATTEMPTS):
            if len(peers) < found.request.quorum:
                message = f"{len(peers)} workers are left; the quorum is {found.request.quorum}"
                raise AgentError("quorum_not_met", message)
            try:
                started = time.perf_counter()
                made, links = await self._runner.conduct(found, peers, data)
                await self._publish(found, made, links, started)
            except BrokenError as broken:
                if found.stop.is_set():
                    raise StoppedError from None
                left = {peer.node_id: "it has left the round" for peer in peers if peer.node_id in found.dropped}
                lost = {**left, **broken.lost}
                peers = [peer for peer in peers if peer.node_id not in lost]
                found.watched.change(rejected={**found.report.rejected, **lost})
                without = f" without {', '.join(sorted(lost))}" if lost else ""
                found.note(f"{broken}: the round was begun again from its base{without}")
                self._log("begun_again", round=found.report.round, lost=len(lost))
            else:
                return
        raise AgentError("attempts_exhausted", f"the round broke {_MOST_ATTEMPTS} times")

    def _pooled(self, request: AggregateRound) -> EncodedTexts:
        with self._cache.lock:
            self._cache.load(request.model, self._store.require(request.base_digest))
            return self._cache.shard(request.model, request.dataset).training

    async def _publish(self, found: SyncRound, made: Attempt, links: list[LinkUse], started: float) -> None:
        request, reports = found.request, [made.ended[peer.node_id].report for peer in made.peers]
        digests = {one.digest for one in made.ended.values()}
        if len(digests) != 1 or None in digests:
            raise AgentError("replicas_differ", "the workers did not end with the same model")
        digest = digests.pop() or ""
        publishing = time.perf_counter()
        target = self._store.path(request.training_id, digest)
        size, seconds = await self._peers.fetch_model(made.peers[0], digest, target)
        await asyncio.to_thread(lambda: read_sound_state(target, tensors.read(self._store.require(request.base_digest))))
        links = [*links, LinkUse(source=made.peers[0].node_id, target=self._node_id, bytes=size, seconds=seconds)]
        links += [link for report in reports for link in report.links]
        aggregate_seconds = time.perf_counter() - publishing
        validation = await self._validate(request, digest)
        self._store.prune(request.training_id, {digest, request.base_digest})
        if found.stop.is_set():
            raise StoppedError
        self._log("published", round=request.round, seconds=time.perf_counter() - started)
        found.watched.change(
            state="done",
            digest=digest,
            received=[report.model_copy(update={"links": []}) for report in reports],
            accepted=[report.node_id for report in reports],
            aggregate_seconds=aggregate_seconds,
            bytes_received=made.box.bytes + size,
            validation=validation,
            links=links,
        )

"""A worker in synchronous rounds: takes its share of the pooled data, and goes step by step with the others."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from workers.agent.datasets.batches import EncodedTexts
from workers.agent.modeling import precision
from workers.agent.modeling.cache import ModelCache
from workers.agent.peers.client import PeerClient
from workers.agent.peers.model_fetcher import ModelFetcher
from workers.agent.protocol.common import AgentProblem, Decision, LinkUse, StopResult
from workers.agent.protocol.synchronous import AttemptResult, BeginAttempt, BeginAttemptResult, StartSteps
from workers.agent.protocol.training import TrainReport
from workers.agent.runtime.autonomy import take_pending_decisions
from workers.agent.runtime.errors import AgentError, StoppedError
from workers.agent.runtime.logs import Log
from workers.agent.runtime.long_poll import PollableReport
from workers.agent.storage import tensors
from workers.agent.storage.model_store import ModelStore
from workers.agent.synchronous import shares
from workers.agent.synchronous.allreduce import ALL_REDUCE, AllReduceContext
from workers.agent.synchronous.connections import Inbox, PeerConnections
from workers.agent.synchronous.replica import FIGURES, Replica, length

_TELL_S = 30.0
T = TypeVar("T")


@dataclass(slots=True)
class _WorkerAttempt:
    request: BeginAttempt
    box: Inbox
    watched: PollableReport[TrainReport]
    links: list[LinkUse]
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    async def unless_stopped(self, work: Awaitable[T]) -> T:
        """Wait for the network, but no longer than until the round is stopped."""
        task, told = asyncio.ensure_future(work), asyncio.create_task(self.stop.wait())
        try:
            await asyncio.wait({task, told}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise StoppedError
            return task.result()
        finally:
            for one in (task, told):
                one.cancel()
            await asyncio.gather(task, told, return_exceptions=True)


class SyncWorker:
    """One attempt at one round at a time. The share and the optimizer's state stay in memory between rounds, never on disk."""

    def __init__(
        self,
        node_id: str,
        exchange: PeerClient,
        store: ModelStore,
        cache: ModelCache,
        model_fetcher: ModelFetcher,
        log: Log,
        pending_decisions: list[Decision],
    ) -> None:
        self._node_id = node_id
        self._pending_decisions = pending_decisions
        self._peers = exchange
        self._store = store
        self._cache = cache
        self._model_fetcher = model_fetcher
        self._log = log
        # Of its own: requests that wait for the shelf may fill the common pool, and would keep out who has it.
        self._thread = ThreadPoolExecutor(1, "synchronous")
        self._attempt: _WorkerAttempt | None = None
        self._share: tuple[str, EncodedTexts] | None = None
        self._moments: tuple[str, dict[str, Any]] | None = None

    async def begin(self, request: BeginAttempt) -> BeginAttemptResult:
        """Get ready for an attempt: an older one ends, the base is fetched. AgentError `pull_failed`."""
        await self._end_old()
        report = TrainReport(
            node_id=self._node_id,
            training_id=request.training_id,
            round=request.round,
            state="running",
            decisions=take_pending_decisions(self._pending_decisions),
        )
        links = await self._model_fetcher.ensure_model(request.training_id, request.base_digest, request.aggregator)
        limit = 4 * await asyncio.to_thread(self._length, request)
        self._attempt = _WorkerAttempt(request, Inbox(request.attempt, limit), PollableReport(report, "running"), links)
        return BeginAttemptResult(
            node_id=self._node_id,
            has_share=self._share is not None and self._share[0] == request.share,
            has_moments=self._moments is not None and self._moments[0] == request.base_digest,
        )

    def _length(self, request: BeginAttempt) -> int:
        with self._cache.lock:
            return length(self._cache.network(request.model))

    async def _end_old(self) -> None:
        old = self._attempt
        if old is not None:
            old.stop.set()
            if old.task is not None:
                await asyncio.gather(old.task, return_exceptions=True)

    def box(self, attempt: str) -> Inbox | None:
        """Where vectors of that attempt go; None for any but the one in hand."""
        found = self._attempt
        return found.box if found is not None and found.request.attempt == attempt and not found.stop.is_set() else None

    def _known(self, attempt: str) -> _WorkerAttempt:
        if self._attempt is None or self._attempt.request.attempt != attempt:
            raise AgentError("unknown_attempt", "this agent knows no such attempt", 404)
        return self._attempt

    async def alive(self, attempt: str) -> StopResult:
        return StopResult(stopped=self._known(attempt).stop.is_set())

    async def share(self, attempt: str, body: bytes) -> StopResult:
        """Take the samples that are this worker's. AgentError `bad_share`."""
        found = self._known(attempt)

        def encoded() -> EncodedTexts:
            with self._cache.lock:
                return shares.unpacked(body, self._cache.network(found.request.model))

        self._share = (found.request.share, await asyncio.to_thread(encoded))
        return StopResult(stopped=False)

    async def go(self, request: StartSteps) -> StopResult:
        found = self._known(request.attempt)
        if found.task is None and self._share is not None:
            moments = self._moments[1] if request.resume and self._moments is not None else None
            found.task = asyncio.create_task(self._run(found, self._share[1], moments))
        return StopResult(stopped=found.task is None)

    def knows(self, training_id: str, number: int) -> bool:
        found = self._attempt
        return found is not None and (found.request.training_id, found.request.round) == (training_id, number)

    async def report(self, wait_s: float) -> TrainReport:
        """Of the attempt in hand; only where `knows` says so."""
        assert self._attempt is not None
        return await self._attempt.watched.closed(wait_s)

    def stop(self, training_id: str) -> bool:
        found = self._attempt
        if found is None or found.request.training_id != training_id or not found.watched.is_open:
            return False
        found.stop.set()
        found.watched.change(state="stopped")
        return True

    async def _run(self, found: _WorkerAttempt, data: EncodedTexts, moments: dict[str, Any] | None) -> None:
        ended: AttemptResult | None = None
        attempt = found.request.attempt
        try:
            digest = await self._train(found, data, moments)
            ended = AttemptResult(
                attempt=attempt, report=found.watched.report.model_copy(update={"state": "done"}), digest=digest
            )
        except StoppedError:
            found.watched.change(state="stopped")
        except AgentError as error:
            ended = AttemptResult(attempt=attempt, report=found.watched.report, problem=error.problem)
        except Exception as error:  # noqa: BLE001 - whatever went wrong, the aggregator must hear of it
            failed = AgentProblem(code="agent_failed", message=f"the round failed with {type(error).__name__}")
            ended = AttemptResult(attempt=attempt, report=found.watched.report, problem=failed)
        report, problem = found.watched.report, ended.problem if ended else None
        self._log("synchronous", round=report.round, state=report.state, problem=problem.code if problem else None)
        if ended is None:
            return
        try:
            tell = self._peers.ask(found.request.aggregator, "/synchronous/ended", ended, StopResult, within_s=_TELL_S)
            await found.unless_stopped(tell)
        except StoppedError:
            return
        except AgentError as error:
            self._log("not_told", problem=error.code)
        # A failed attempt is the aggregator's to begin again: to whoever polls, the round still runs.
        if ended.problem is None:
            found.watched.change(**dict(ended.report))

    async def _train(self, found: _WorkerAttempt, data: EncodedTexts, moments: dict[str, Any] | None) -> str:
        """All steps of the round; the digest of the model that they end with."""
        request = found.request
        await self._aside(self._cache.lock.acquire)
        try:
            network = await self._aside(partial(self._cache.load, request.model, self._store.require(request.base_digest)))
            if request.hyperparameters.mixed_precision and (refusal := precision.missing_bf16_decision(network.model)):
                decisions = [*found.watched.report.decisions, refusal]
                found.watched.report = found.watched.report.model_copy(update={"decisions": decisions})
            place = next(index for index, peer in enumerate(request.peers) if peer.node_id == self._node_id)
            replica = Replica(network, data, request.hyperparameters, request.round, place, moments)
            try:
                await self._steps(found, replica, len(data), place)
                state = tensors.state_of(network.model)
                saved = await self._aside(partial(self._store.save, request.training_id, state))
                self._moments = (saved.digest, replica.moments())
            finally:
                replica.close()
        finally:
            self._cache.lock.release()
        self._store.prune(request.training_id, {request.base_digest, saved.digest})
        return saved.digest

    async def _aside(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _steps(self, found: _WorkerAttempt, replica: Replica, size: int, place: int) -> None:
        request, started = found.request, time.perf_counter()
        connections = PeerConnections(self._peers, self._node_id, request.attempt, request.wait_s)
        context = AllReduceContext(
            self._node_id, request.peers, request.aggregator, request.groups, connections, found.box, request.wait_s
        )
        wanted, add = request.hyperparameters, ALL_REDUCE[request.kind]
        try:
            for epoch in range(wanted.local_epochs):
                loss, right = 0.0, 0.0
                for batch in shares.batches(size, request.steps, place, (wanted.seed, request.round, epoch)):
                    if found.stop.is_set():
                        raise StoppedError
                    own = await self._aside(partial(replica.gradient, batch))
                    loss, right = loss + float(own[-FIGURES + 1]), right + float(own[-1])
                    total = await found.unless_stopped(add(context, own))
                    await self._aside(partial(replica.step, total))
                    context.step += 1
                    part = context.step / (request.steps * wanted.local_epochs)
                    found.watched.report = found.watched.report.model_copy(update={"progress": part})
                figures = {"loss": loss / size, "accuracy": right / size, "samples": size}
                found.watched.report = found.watched.report.model_copy(update=figures)
        finally:
            await connections.close()
        sent = list(connections.links.values())
        found.watched.report = found.watched.report.model_copy(
            update={
                "train_seconds": time.perf_counter() - started,
                "bytes_sent": sum(link.bytes for link in sent),
                "links": [*found.links, *sent],
            }
        )

"""A worker in synchronous rounds: it receives a share of the data and steps with the others."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from workers.agent.context import AgentContext
from workers.agent.datasets.batches import EncodedTexts
from workers.agent.modeling import precision
from workers.agent.protocol.common import LinkUse, StopResult
from workers.agent.protocol.synchronous import AttemptResult, BeginAttempt, BeginAttemptResult, StartSteps
from workers.agent.protocol.training import TrainReport
from workers.agent.runtime.current_round import CurrentRound
from workers.agent.runtime.errors import AgentError, StoppedError, problem_of
from workers.agent.runtime.waiting import result_unless_set
from workers.agent.runtime.worker_report import WorkerReport
from workers.agent.storage import tensors
from workers.agent.synchronous import shares
from workers.agent.synchronous.allreduce import ALL_REDUCE, AllReduceContext
from workers.agent.synchronous.connections import Inbox, PeerConnections
from workers.agent.synchronous.replica import FIGURES, Replica, length

_REPORT_S = 30.0
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Share:
    """This worker's samples. `name` changes with the data, the workers and their order."""

    name: str
    data: EncodedTexts


@dataclass(frozen=True, slots=True)
class _Moments:
    """The optimizer's state (torch's state dict) that belongs to the model `digest`."""

    digest: str
    state: dict[str, Any]


@dataclass(slots=True)
class WorkerAttempt:
    """One attempt at a round, at one worker. `received` are the downloads before its steps."""

    request: BeginAttempt
    inbox: Inbox
    report: WorkerReport
    received: list[LinkUse]
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    @property
    def training_id(self) -> str:
        return self.request.training_id

    @property
    def number(self) -> int:
        return self.request.round

    @property
    def place(self) -> int:
        """This worker's index among the workers of the attempt."""
        node_id = self.report.current.node_id
        return next(index for index, peer in enumerate(self.request.peers) if peer.node_id == node_id)

    async def unless_stopped(self, work: Coroutine[Any, Any, T]) -> T:
        """Return the result of `work`.

        Raises: StoppedError if the round is stopped first.
        """
        result = await result_unless_set(self.stop, work)
        if result is None:
            raise StoppedError
        return result

    async def end(self) -> None:
        self.stop.set()
        if self.task is not None:
            await asyncio.gather(self.task, return_exceptions=True)


class SyncWorker:
    """One attempt at one round at a time.

    The share and the optimizer's state stay in memory between rounds. They are never on disk.
    """

    def __init__(self, context: AgentContext) -> None:
        self._node_id = context.node_id
        self._pending_decisions = context.pending_decisions
        self._peers = context.peers
        self._store = context.store
        self._cache = context.cache
        self._fetcher = context.fetcher
        self._log = context.log
        # A thread of its own. Requests that wait for the cache's lock may fill the common pool. The
        # holder of that lock would then get no thread.
        self._thread = ThreadPoolExecutor(1, "synchronous")
        self._attempts = CurrentRound[WorkerAttempt]()
        self._share: _Share | None = None
        self._moments: _Moments | None = None

    async def begin(self, request: BeginAttempt) -> BeginAttemptResult:
        """Prepare an attempt: end an older one and fetch the base model.

        Raises: AgentError `pull_failed`.
        """
        if self._attempts.round is not None:
            await self._attempts.round.end()
        decisions = self._pending_decisions.drain()
        report = WorkerReport.begin(self._node_id, request.training_id, request.round, decisions)
        received = await self._fetcher.ensure_model(request.training_id, request.base_digest, request.aggregator)
        limit = 4 * await asyncio.to_thread(self._length, request)
        self._attempts.round = WorkerAttempt(request, Inbox(request.attempt, limit), report, received)
        return BeginAttemptResult(
            node_id=self._node_id,
            has_share=self._share is not None and self._share.name == request.share,
            has_moments=self._moments is not None and self._moments.digest == request.base_digest,
        )

    def _length(self, request: BeginAttempt) -> int:
        with self._cache.lock:
            return length(self._cache.network(request.model))

    def inbox(self, attempt_id: str) -> Inbox | None:
        """Return where vectors of that attempt go; None for any but the current one."""
        attempt = self._attempts.round
        if attempt is None or attempt.request.attempt != attempt_id or attempt.stop.is_set():
            return None
        return attempt.inbox

    def _need(self, attempt_id: str) -> WorkerAttempt:
        attempt = self._attempts.round
        if attempt is None or attempt.request.attempt != attempt_id:
            raise AgentError("unknown_attempt", "this agent knows no such attempt", 404)
        return attempt

    async def alive(self, attempt_id: str) -> StopResult:
        return StopResult(stopped=self._need(attempt_id).stop.is_set())

    async def store_share(self, attempt_id: str, body: bytes) -> StopResult:
        """Store the samples that this worker trains on.

        Raises: AgentError `bad_share`.
        """
        request = self._need(attempt_id).request

        def unpacked() -> EncodedTexts:
            with self._cache.lock:
                return shares.unpacked(body, self._cache.network(request.model))

        self._share = _Share(request.share, await asyncio.to_thread(unpacked))
        return StopResult(stopped=False)

    async def start_steps(self, request: StartSteps) -> StopResult:
        """Start the attempt's steps. The answer is "stopped" without a share."""
        attempt = self._need(request.attempt)
        if attempt.task is None and self._share is not None:
            moments = self._moments.state if request.resume and self._moments is not None else None
            attempt.task = asyncio.create_task(self._run(attempt, self._share.data, moments))
        return StopResult(stopped=attempt.task is None)

    def find(self, training_id: str, number: int) -> WorkerAttempt | None:
        """Return the round's attempt, if this worker knows it as a synchronous round."""
        return self._attempts.find(training_id, number)

    def stop(self, training_id: str) -> bool:
        attempt = self._attempts.of_training(training_id)
        if attempt is None or not attempt.report.is_open:
            return False
        attempt.stop.set()
        attempt.report.stop()
        return True

    async def _run(self, attempt: WorkerAttempt, data: EncodedTexts, moments: dict[str, Any] | None) -> None:
        """Take all steps. Report the attempt's end to the aggregator, unless it was stopped."""
        attempt_id, report = attempt.request.attempt, attempt.report
        try:
            digest = await self._train(attempt, data, moments)
            ended = AttemptResult(attempt=attempt_id, report=report.as_done(), digest=digest)
        except StoppedError:
            report.stop()
            self._log_end(report.current, None)
            return
        except Exception as error:  # noqa: BLE001 - the aggregator must know of every failure
            ended = AttemptResult(attempt=attempt_id, report=report.current, problem=problem_of(error))
        self._log_end(report.current, ended)
        try:
            answer = self._peers.ask(attempt.request.aggregator, "/synchronous/ended", ended, StopResult, within_s=_REPORT_S)
            await attempt.unless_stopped(answer)
        except StoppedError:
            return
        except AgentError as error:
            self._log("not_told", problem=error.code)
        # The aggregator repeats an attempt that failed. So the report of the round stays open then.
        if ended.problem is None:
            report.finish()

    def _log_end(self, report: TrainReport, ended: AttemptResult | None) -> None:
        problem = ended.problem.code if ended is not None and ended.problem is not None else None
        self._log("synchronous", round=report.round, state=report.state, problem=problem)

    async def _train(self, attempt: WorkerAttempt, data: EncodedTexts, moments: dict[str, Any] | None) -> str:
        """Take all steps of the round. Return the digest of the model that they end with."""
        request = attempt.request
        await self._in_thread(self._cache.lock.acquire)
        try:
            base = self._store.require(request.base_digest)
            network = await self._in_thread(partial(self._cache.load, request.model, base))
            if request.hyperparameters.mixed_precision and (decision := precision.missing_bf16_decision(network.model)):
                attempt.report.add_decisions(decision)
            replica = Replica(network, data, request.hyperparameters, request.round, attempt.place, moments)
            try:
                await self._take_steps(attempt, replica, len(data))
                state = tensors.state_of(network.model)
                saved = await self._in_thread(partial(self._store.save, request.training_id, state))
                self._moments = _Moments(saved.digest, replica.moments())
            finally:
                replica.close()
        finally:
            self._cache.lock.release()
        self._store.prune(request.training_id, {request.base_digest, saved.digest})
        return saved.digest

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _take_steps(self, attempt: WorkerAttempt, replica: Replica, samples: int) -> None:
        request, started = attempt.request, time.perf_counter()
        connections = PeerConnections(self._peers, self._node_id, request.attempt, request.wait_s)
        context = AllReduceContext(
            self._node_id, request.peers, request.aggregator, request.groups, connections, attempt.inbox, request.wait_s
        )
        try:
            for epoch in range(request.hyperparameters.local_epochs):
                await self._take_epoch(attempt, replica, context, samples, epoch)
        finally:
            await connections.close()
        sent = list(connections.links.values())
        attempt.report.record_steps(time.perf_counter() - started, attempt.received, sent)

    async def _take_epoch(
        self, attempt: WorkerAttempt, replica: Replica, context: AllReduceContext, samples: int, epoch: int
    ) -> None:
        request, hyperparameters = attempt.request, attempt.request.hyperparameters
        all_reduce, loss, right = ALL_REDUCE[request.kind], 0.0, 0.0
        seed = (hyperparameters.seed, request.round, epoch)
        for batch in shares.batches(samples, request.steps, attempt.place, seed):
            if attempt.stop.is_set():
                raise StoppedError
            vector = await self._in_thread(partial(replica.gradient, batch))
            loss, right = loss + float(vector[-FIGURES + 1]), right + float(vector[-1])
            total = await attempt.unless_stopped(all_reduce(context, vector))
            await self._in_thread(partial(replica.step, total))
            context.step += 1
            attempt.report.set_progress(context.step / (request.steps * hyperparameters.local_epochs))
        attempt.report.record_epoch(samples, loss / samples, right / samples)

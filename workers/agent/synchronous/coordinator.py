"""The aggregator in synchronous rounds.

It sends each worker a share of the pooled data and keeps the workers in step. At the end it
publishes their common model. A lost worker ends the attempt. The round then begins again at its
base with the workers that still answer, and the report says so. Nothing of a broken attempt is
used: all workers have computed the published model together.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from workers.agent.context import AgentContext
from workers.agent.datasets.batches import EncodedTexts
from workers.agent.protocol.aggregation import AggregateReport, AggregateRound
from workers.agent.protocol.common import AgentProblem, LinkUse, Peer, StopResult
from workers.agent.protocol.inference import EvaluationResult
from workers.agent.protocol.synchronous import AttemptResult
from workers.agent.protocol.training import Hyperparameters
from workers.agent.runtime.aggregator_report import AggregatorReport, PublishedModel
from workers.agent.runtime.current_round import CurrentRound
from workers.agent.runtime.errors import AgentError, StoppedError, problem_of
from workers.agent.storage import tensors
from workers.agent.synchronous.attempt import Attempt, AttemptRunner, BrokenError, SyncRound
from workers.agent.synchronous.calls import Calls
from workers.agent.synchronous.connections import Inbox
from workers.agent.updates.validation import read_sound_state

_MOST_ATTEMPTS = 5
Validate = Callable[[AggregateRound, str], Awaitable[EvaluationResult | None]]


class SyncCoordinator:
    """One round at a time. `validate` measures a new model on the aggregator's validation file."""

    def __init__(self, context: AgentContext, validate: Validate) -> None:
        self._node_id = context.node_id
        self._pending_decisions = context.pending_decisions
        self._peers = context.peers
        self._store = context.store
        self._cache = context.cache
        self._log = context.log
        self._calls = Calls(context.peers)
        self._runner = AttemptRunner(context, self._calls)
        self._validate = validate
        self._rounds = CurrentRound[SyncRound]()
        self._task: asyncio.Task[None] | None = None

    async def start(self, request: AggregateRound, hyperparameters: Hyperparameters) -> AggregateReport:
        """Begin the round. Return the report, also if the round has begun.

        Raises: AgentError `unknown_model`.
        """
        begun = self._rounds.find(request.training_id, request.round)
        if begun is not None and begun.report.current.state in ("collecting", "done"):
            return begun.report.current
        self._store.require(request.base_digest)
        if self._rounds.of_training(request.training_id) is None:
            self._cache.clear_data()
        if self._rounds.round is not None and self._task is not None:
            self._rounds.round.stop.set()
            await asyncio.gather(self._task, return_exceptions=True)
        decisions = self._pending_decisions.drain()
        report = AggregatorReport.begin(self._node_id, request.training_id, request.round, decisions)
        self._rounds.round = sync_round = SyncRound(request, hyperparameters, report)
        self._task = asyncio.create_task(self._run(sync_round))
        return report.current

    def find(self, training_id: str, number: int) -> SyncRound | None:
        """Return the round, if this aggregator knows it as a synchronous round."""
        return self._rounds.find(training_id, number)

    def stop(self, training_id: str) -> bool:
        sync_round = self._rounds.of_training(training_id)
        if sync_round is None or not sync_round.report.is_open:
            return False
        sync_round.stop.set()
        sync_round.report.stop()
        return True

    def _attempt(self, attempt_id: str) -> Attempt | None:
        """Return the current attempt, if it has this id."""
        attempt = self._rounds.round.attempt if self._rounds.round is not None else None
        return attempt if attempt is not None and attempt.inbox.attempt == attempt_id else None

    def inbox(self, attempt_id: str) -> Inbox | None:
        """Return where vectors of that attempt go; None for any but the current one."""
        attempt = self._attempt(attempt_id)
        return attempt.inbox if attempt is not None else None

    async def record_end(self, ended: AttemptResult) -> StopResult:
        """Record how the attempt ended at one worker."""
        attempt = self._attempt(ended.attempt)
        if attempt is None:
            return StopResult(stopped=True)
        attempt.record_end(ended)
        return StopResult(stopped=False)

    async def _run(self, sync_round: SyncRound) -> None:
        request, report = sync_round.request, sync_round.report
        try:
            async with asyncio.timeout(request.deadline_s):
                await self._run_attempts(sync_round)
        except StoppedError:
            report.stop()
        except TimeoutError:
            message = f"the workers had not finished by the round's deadline of {request.deadline_s:g} s"
            report.fail(AgentProblem(code="deadline", message=message))
        except Exception as error:  # noqa: BLE001 - the control plane would wait for a round that stays open
            report.fail(problem_of(error))
        finally:
            sync_round.attempt = None
        if report.current.state != "done":
            await self._calls.stop(request.workers, request.training_id)
        self._log("synchronous", round=request.round, state=report.current.state, workers=len(report.current.accepted))

    async def _run_attempts(self, sync_round: SyncRound) -> None:
        """Publish the first attempt that is complete.

        Raises: StoppedError. AgentError `quorum_not_met`, `attempts_exhausted`, or the problem of
        an attempt that would fail again.
        """
        request = sync_round.request
        data = await asyncio.to_thread(self._pooled, request)
        ordered = request.path.peers if request.path is not None else request.workers
        peers = [peer for peer in ordered if peer.node_id not in sync_round.dropped]
        for _ in range(_MOST_ATTEMPTS):
            if len(peers) < request.quorum:
                message = f"{len(peers)} workers are left; the quorum is {request.quorum}"
                raise AgentError("quorum_not_met", message)
            try:
                started = time.perf_counter()
                attempt, links = await self._runner.run(sync_round, peers, data)
                await self._publish(sync_round, attempt, links, started)
            except BrokenError as broken:
                if sync_round.stop.is_set():
                    raise StoppedError from None
                peers = self._without_lost(sync_round, peers, broken)
            else:
                return
        raise AgentError("attempts_exhausted", f"the round broke {_MOST_ATTEMPTS} times")

    def _without_lost(self, sync_round: SyncRound, peers: Sequence[Peer], broken: BrokenError) -> list[Peer]:
        """Record the broken attempt. Return the workers of the next one."""
        left = {peer.node_id: "it has left the round" for peer in peers if peer.node_id in sync_round.dropped}
        lost = {**left, **broken.lost}
        sync_round.report.add_rejected(lost)
        without = f" without {', '.join(sorted(lost))}" if lost else ""
        sync_round.report.add_notices(f"{broken}: the round was begun again from its base{without}")
        self._log("begun_again", round=sync_round.number, lost=len(lost))
        return [peer for peer in peers if peer.node_id not in lost]

    def _pooled(self, request: AggregateRound) -> EncodedTexts:
        """Return all training samples of the pooled data."""
        with self._cache.lock:
            self._cache.load(request.model, self._store.require(request.base_digest))
            return self._cache.shard(request.model, request.dataset, data_format=request.data_format).training

    async def _publish(self, sync_round: SyncRound, attempt: Attempt, links: list[LinkUse], started: float) -> None:
        """Fetch the workers' common model, measure it and end the round."""
        request, reports = sync_round.request, [attempt.ended[peer.node_id].report for peer in attempt.peers]
        digest, source = _common_digest(attempt), attempt.peers[0]
        publishing = time.perf_counter()
        target = self._store.path(request.training_id, digest)
        size, seconds = await self._peers.fetch_model(source, digest, target)
        await asyncio.to_thread(lambda: read_sound_state(target, tensors.read(self._store.require(request.base_digest))))
        links = [*links, LinkUse(source=source.node_id, target=self._node_id, bytes=size, seconds=seconds)]
        links += [link for report in reports for link in report.links]
        aggregate_seconds = time.perf_counter() - publishing
        validation = await self._validate(request, digest)
        self._store.prune(request.training_id, {digest, request.base_digest})
        if sync_round.stop.is_set():
            raise StoppedError
        self._log("published", round=request.round, seconds=time.perf_counter() - started)
        for report in reports:
            sync_round.report.add_received(report)
        sync_round.report.add_bytes_received(attempt.inbox.bytes + size)
        accepted = [report.node_id for report in reports]
        sync_round.report.finish(PublishedModel(digest, accepted, aggregate_seconds, links, validation))


def _common_digest(attempt: Attempt) -> str:
    """Raises: AgentError `replicas_differ` if the workers did not end with the same model."""
    digests = {ended.digest for ended in attempt.ended.values()}
    digest = digests.pop() if len(digests) == 1 else None
    if digest is None:
        raise AgentError("replicas_differ", "the workers did not end with the same model")
    return digest

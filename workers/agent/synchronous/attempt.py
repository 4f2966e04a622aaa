"""One attempt at a synchronous round: send shares, keep workers in step, check them to the end."""

import asyncio
import hashlib
import uuid
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from workers.agent.context import AgentContext
from workers.agent.datasets.batches import EncodedTexts
from workers.agent.protocol.aggregation import AggregateRound
from workers.agent.protocol.common import LinkUse, Peer
from workers.agent.protocol.synchronous import AttemptResult, BeginAttempt, BeginAttemptResult, StartSteps
from workers.agent.protocol.training import Hyperparameters
from workers.agent.runtime.aggregator_report import AggregatorReport
from workers.agent.runtime.errors import AgentError, StoppedError
from workers.agent.synchronous import shares
from workers.agent.synchronous.allreduce import AllReduceContext, lead, sources_of
from workers.agent.synchronous.calls import Calls
from workers.agent.synchronous.connections import Inbox, PeerConnections
from workers.agent.synchronous.replica import length

# Problems of the computation, not of a worker: another attempt would end the same way.
_FATAL = ("diverged",)
_CHECK_EVERY_S = 2.0
_MOST_FAILED_CHECKS = 2
T = TypeVar("T")


class BrokenError(Exception):
    """The attempt is over. `lost` are workers that the next one leaves out, with the reasons."""

    def __init__(self, reason: str, lost: dict[str, str]) -> None:
        super().__init__(reason)
        self.lost = lost


@dataclass(slots=True)
class Attempt:
    """`ended` says for each worker how the attempt ended there.

    `over` is set once all workers have ended, one has failed, or one is lost. `broken` says what
    the checks of the workers have found.
    """

    inbox: Inbox
    peers: list[Peer]
    ended: dict[str, AttemptResult] = field(default_factory=dict)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    broken: BrokenError | None = None

    def record_end(self, ended: AttemptResult) -> None:
        self.ended[ended.report.node_id] = ended
        if ended.problem is not None or len(self.ended) == len(self.peers):
            self.over.set()

    def end_without(self, node_ids: Collection[str]) -> None:
        """End the attempt if one of these workers is in it."""
        if any(peer.node_id in node_ids for peer in self.peers):
            self.over.set()

    def break_off(self, broken: BrokenError) -> None:
        self.broken = broken
        self.over.set()


@dataclass(slots=True)
class SyncRound:
    """A synchronous round at its aggregator.

    `SyncCoordinator` and `AttemptRunner` change it, on the event loop's thread. `attempt` is None
    before the first attempt and after the last.
    """

    request: AggregateRound
    hyperparameters: Hyperparameters
    report: AggregatorReport
    dropped: set[str] = field(default_factory=set)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    attempt: Attempt | None = None

    @property
    def training_id(self) -> str:
        return self.request.training_id

    @property
    def number(self) -> int:
        return self.request.round

    def drop(self, node_ids: Collection[str]) -> None:
        """Continue without these workers."""
        self.dropped |= set(node_ids)
        if self.attempt is not None:
            self.attempt.end_without(self.dropped)


class AttemptRunner:
    def __init__(self, context: AgentContext, calls: Calls) -> None:
        self._node_id = context.node_id
        self._peers = context.peers
        self._cache = context.cache
        self._calls = calls

    async def run(self, sync_round: SyncRound, peers: list[Peer], data: EncodedTexts) -> tuple[Attempt, list[LinkUse]]:
        """Run one attempt to its end. Return it, and what this node sent for it.

        Raises: BrokenError if another attempt may succeed. AgentError if it would fail the same
        way. StoppedError.
        """
        limit = 4 * await asyncio.to_thread(self._length, sync_round.request)
        sync_round.attempt = attempt = Attempt(Inbox(uuid.uuid4().hex, limit), peers)
        begins = self._begin_messages(sync_round, attempt, data)
        ready = await self._call_all(sync_round, attempt, lambda peer: self._calls.begin(peer, begins[peer.node_id]))
        without_share = {node_id for node_id, answer in ready.items() if not answer.has_share}
        links = await self._send_shares(sync_round, attempt, data, without_share)
        start = StartSteps(attempt=attempt.inbox.attempt, resume=_resumes(sync_round, list(ready.values())))
        await self._call_all(sync_round, attempt, lambda peer: self._calls.start_steps(peer, start))
        sent = await self._follow(sync_round, attempt, begins[peers[0].node_id])
        return attempt, [*links, *sent]

    def _length(self, request: AggregateRound) -> int:
        with self._cache.lock:
            return length(self._cache.network(request.model))

    async def _send_shares(
        self, sync_round: SyncRound, attempt: Attempt, data: EncodedTexts, without_share: Collection[str]
    ) -> list[LinkUse]:
        places = {peer.node_id: place for place, peer in enumerate(attempt.peers)}
        links: list[LinkUse] = []

        async def send(peer: Peer) -> None:
            if peer.node_id in without_share:
                indices = shares.share(len(data), len(attempt.peers), places[peer.node_id])
                body = await asyncio.to_thread(shares.packed, data, indices)
                links.append(await self._calls.send_share(peer, self._node_id, attempt.inbox.attempt, body))

        await self._call_all(sync_round, attempt, send)
        return links

    def _begin_messages(self, sync_round: SyncRound, attempt: Attempt, data: EncodedTexts) -> dict[str, BeginAttempt]:
        request, peers = sync_round.request, attempt.peers
        kind = request.path.kind if request.path is not None and len(peers) > 1 else "star"
        names = [peer.node_id for peer in peers]
        source = f"{request.training_id}/{data.digest()}/{','.join(names)}"
        return {
            peer.node_id: BeginAttempt(
                training_id=request.training_id,
                round=request.round,
                attempt=attempt.inbox.attempt,
                model=request.model,
                base_digest=request.base_digest,
                aggregator=self._peers.introduce(request.self_peer, peer),
                peers=_introduced_to(peer, request, names),
                kind=kind,
                groups=_groups_of(request, names),
                hyperparameters=sync_round.hyperparameters,
                steps=shares.steps(len(data), sync_round.hyperparameters.batch_size),
                share=hashlib.sha256(f"{source}/{place}".encode()).hexdigest(),
                wait_s=request.deadline_s,
            )
            for place, peer in enumerate(peers)
        }

    async def _call_all(self, sync_round: SyncRound, attempt: Attempt, call: Callable[[Peer], Awaitable[T]]) -> dict[str, T]:
        """Call every worker. Return the answers by node id.

        Raises: BrokenError with the workers whose call failed.
        """
        results = await asyncio.gather(*map(call, attempt.peers), return_exceptions=True)
        lost: dict[str, str] = {}
        answers: dict[str, T] = {}
        for peer, result in zip(attempt.peers, results, strict=True):
            if isinstance(result, AgentError):
                lost[peer.node_id] = result.message
            elif isinstance(result, BaseException):
                raise result
            else:
                answers[peer.node_id] = result
        if lost or sync_round.stop.is_set():
            raise BrokenError("; ".join(lost.values()) or "stopped", lost)
        return answers

    async def _follow(self, sync_round: SyncRound, attempt: Attempt, begin: BeginAttempt) -> list[LinkUse]:
        """Do the aggregator's part until every worker has ended. Return what this node sent."""
        connections = PeerConnections(self._peers, self._node_id, attempt.inbox.attempt, begin.wait_s)
        context = AllReduceContext(
            self._node_id, attempt.peers, begin.aggregator, begin.groups, connections, attempt.inbox, begin.wait_s
        )
        steps = begin.steps * begin.hyperparameters.local_epochs
        sums = asyncio.create_task(lead(context, sources_of(context, begin.kind), steps, attempt.inbox.limit // 4))
        over, stopped = asyncio.create_task(attempt.over.wait()), asyncio.create_task(sync_round.stop.wait())
        checks = asyncio.create_task(self._check_workers(attempt))
        try:
            await asyncio.wait({sums, over, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if sums.done() and sums.exception() is None:
                await asyncio.wait({over, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if sync_round.stop.is_set():
                raise StoppedError
            _raise_problem(attempt, sums)
            return list(connections.links.values())
        finally:
            for task in (sums, over, stopped, checks):
                task.cancel()
            await asyncio.gather(sums, over, stopped, checks, return_exceptions=True)
            await connections.close()

    async def _check_workers(self, attempt: Attempt) -> None:
        """End the attempt when a worker does not answer or was restarted.

        The other workers would wait for it.
        """
        failed_checks = dict.fromkeys((peer.node_id for peer in attempt.peers), 0)

        async def check(peer: Peer) -> None:
            try:
                is_here = await self._calls.alive(peer, attempt.inbox.attempt)
            except AgentError as error:
                failed_checks[peer.node_id] += 1
                if failed_checks[peer.node_id] == _MOST_FAILED_CHECKS:
                    attempt.break_off(BrokenError(error.message, {peer.node_id: error.message}))
            else:
                failed_checks[peer.node_id] = 0
                if not is_here:
                    attempt.break_off(BrokenError(f"{peer.node_id}: its agent was restarted", {}))

        while True:
            await asyncio.sleep(_CHECK_EVERY_S)
            await asyncio.gather(*map(check, attempt.peers))


def _groups_of(request: AggregateRound, names: Collection[str]) -> list[list[str]]:
    """Return the groups of the round's path, without workers that are lost."""
    groups = request.path.groups if request.path is not None else []
    remaining = ([node_id for node_id in group if node_id in names] for group in groups)
    return [group for group in remaining if group]


def _introduced_to(reader: Peer, request: AggregateRound, names: Sequence[str]) -> list[Peer]:
    """Return the workers in their order, with the reader's tokens for them."""
    peers = {peer.node_id: peer for peer in request.introductions[reader.node_id]}
    return [peers[name] for name in names]


def _resumes(sync_round: SyncRound, ready: Sequence[BeginAttemptResult]) -> bool:
    """Return whether the optimizer continues from the last round's state: every worker needs it."""
    if all(answer.has_moments for answer in ready):
        return True
    if sync_round.number > 1:
        notice = "not every worker has the optimizer's state of the round before; it starts again"
        sync_round.report.add_notices(notice)
    return False


def _raise_problem(attempt: Attempt, sums: "asyncio.Task[None]") -> None:
    """Return only if the attempt has ended well at every worker.

    Raises: BrokenError if another attempt may succeed, AgentError if it would fail the same way.
    """
    problems = {node_id: ended.problem for node_id, ended in attempt.ended.items() if ended.problem is not None}
    for node_id, problem in problems.items():
        if problem.code in _FATAL:
            raise AgentError(problem.code, f"{node_id}: {problem.message}")
    if not problems and len(attempt.ended) == len(attempt.peers):
        return
    if attempt.broken is not None:
        raise attempt.broken
    if problems:
        node_id, problem = next(iter(problems.items()))
        # A worker that failed by itself is left out. A worker that lost another one is called
        # again; the lost one will not answer then.
        lost = {} if problem.code.startswith("peer_") else {node_id: problem.message}
        raise BrokenError(f"{node_id}: {problem.message}", lost)
    if sums.done() and (error := sums.exception()) is not None:
        raise BrokenError(str(error.message if isinstance(error, AgentError) else type(error).__name__), {})
    raise BrokenError("a worker has left", {})

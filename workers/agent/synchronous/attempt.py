"""One attempt at a synchronous round: the workers are given their shares, kept in step, and watched to the end."""

import asyncio
import hashlib
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from workers.agent.datasets.batches import EncodedTexts
from workers.agent.modeling.cache import ModelCache
from workers.agent.peers.client import PeerClient
from workers.agent.protocol.aggregation import AggregateReport, AggregateRound
from workers.agent.protocol.common import LinkUse, Peer
from workers.agent.protocol.synchronous import AttemptResult, BeginAttempt, BeginAttemptResult, StartSteps
from workers.agent.protocol.training import Hyperparameters
from workers.agent.runtime.errors import AgentError, StoppedError
from workers.agent.runtime.long_poll import PollableReport
from workers.agent.synchronous import shares
from workers.agent.synchronous.allreduce import AllReduceContext, below, lead
from workers.agent.synchronous.calls import Calls
from workers.agent.synchronous.connections import Inbox, PeerConnections
from workers.agent.synchronous.replica import length

# Failures of what is computed, not of who computes: beginning again would end the same way.
_FATAL = ("diverged",)
_LOOK_S = 2.0
_MOST_SILENCES = 2
T = TypeVar("T")


class BrokenError(Exception):
    """An attempt that is over; `lost` are the workers that are left out of the next one, and why."""

    def __init__(self, reason: str, lost: dict[str, str]) -> None:
        super().__init__(reason)
        self.lost = lost


@dataclass(slots=True)
class Attempt:
    box: Inbox
    peers: list[Peer]
    ended: dict[str, AttemptResult] = field(default_factory=dict)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    broken: BrokenError | None = None


@dataclass(slots=True)
class SyncRound:
    request: AggregateRound
    wanted: Hyperparameters
    watched: PollableReport[AggregateReport]
    dropped: set[str] = field(default_factory=set)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    attempt: Attempt | None = None
    task: asyncio.Task[None] | None = None

    @property
    def report(self) -> AggregateReport:
        return self.watched.report

    @property
    def key(self) -> tuple[str, int]:
        return self.request.training_id, self.request.round

    def note(self, notice: str) -> None:
        self.watched.change(notices=[*self.report.notices, notice])


def _known_to(reader: Peer, request: AggregateRound, names: Sequence[str]) -> list[Peer]:
    """The workers in their order, with the reader's passes at them."""
    known = {peer.node_id: peer for peer in request.introductions[reader.node_id]}
    return [known[name] for name in names]


class AttemptRunner:
    def __init__(self, node_id: str, exchange: PeerClient, calls: Calls, cache: ModelCache) -> None:
        self._node_id = node_id
        self._peers = exchange
        self._calls = calls
        self._cache = cache

    async def conduct(self, found: SyncRound, peers: list[Peer], data: EncodedTexts) -> tuple[Attempt, list[LinkUse]]:
        """To its end; returns it, and what this node sent for it. BrokenError where it must be made again, AgentError where
        it would end the same way, StoppedError."""
        made = Attempt(Inbox(uuid.uuid4().hex, 4 * await asyncio.to_thread(self._length, found.request)), peers)
        found.attempt = made
        begins = self._begins(found, made, data)
        begun = await self._all(found, made, lambda peer: self._calls.begin(peer, begins[peer.node_id]))
        links: list[LinkUse] = []
        places = {peer.node_id: place for place, peer in enumerate(peers)}

        async def share(peer: Peer) -> None:
            if not begun[peer.node_id].has_share:
                indices = shares.share(len(data), len(peers), places[peer.node_id])
                body = await asyncio.to_thread(shares.packed, data, indices)
                links.append(await self._calls.share(peer, self._node_id, made.box.attempt, body))

        await self._all(found, made, share)
        resume = self._resumes(found, list(begun.values()))
        go = StartSteps(attempt=made.box.attempt, resume=resume)
        await self._all(found, made, lambda peer: self._calls.go(peer, go))
        sent = await self._follow(found, made, begins[peers[0].node_id])
        return made, [*links, *sent]

    def _length(self, request: AggregateRound) -> int:
        with self._cache.lock:
            return length(self._cache.network(request.model))

    @staticmethod
    def _content(data: EncodedTexts) -> str:
        digest = hashlib.sha256(data.ids.tobytes() + data.offsets.tobytes())
        digest.update(b"" if data.labels is None else data.labels.tobytes())
        return digest.hexdigest()

    def _begins(self, found: SyncRound, made: Attempt, data: EncodedTexts) -> dict[str, BeginAttempt]:
        request, peers = found.request, made.peers
        kind = request.path.kind if request.path is not None and len(peers) > 1 else "star"
        names = [peer.node_id for peer in peers]
        groups = [
            kept for group in (request.path.groups if request.path else []) if (kept := [one for one in group if one in names])
        ]
        source = f"{request.training_id}/{self._content(data)}/{','.join(names)}"
        return {
            peer.node_id: BeginAttempt(
                training_id=request.training_id,
                round=request.round,
                attempt=made.box.attempt,
                model=request.model,
                base_digest=request.base_digest,
                aggregator=self._peers.introduce(request.self_peer, peer),
                peers=_known_to(peer, request, names),
                kind=kind,
                groups=groups,
                hyperparameters=found.wanted,
                steps=shares.steps(len(data), found.wanted.batch_size),
                share=hashlib.sha256(f"{source}/{place}".encode()).hexdigest(),
                wait_s=request.deadline_s,
            )
            for place, peer in enumerate(peers)
        }

    async def _all(self, found: SyncRound, made: Attempt, call: Callable[[Peer], Awaitable[T]]) -> dict[str, T]:
        """Ask every worker; BrokenError with those that did not answer as they should."""
        answers = await asyncio.gather(*map(call, made.peers), return_exceptions=True)
        lost: dict[str, str] = {}
        good: dict[str, T] = {}
        for peer, answer in zip(made.peers, answers, strict=True):
            if isinstance(answer, AgentError):
                lost[peer.node_id] = answer.message
            elif isinstance(answer, BaseException):
                raise answer
            else:
                good[peer.node_id] = answer
        if lost or found.stop.is_set():
            raise BrokenError("; ".join(lost.values()) or "stopped", lost)
        return good

    def _resumes(self, found: SyncRound, begun: Sequence[BeginAttemptResult]) -> bool:
        """Whether the optimizer goes on from the round before: only where every worker still has its state."""
        if all(one.has_moments for one in begun):
            return True
        if found.request.round > 1:
            found.note("not every worker has the optimizer's state of the round before; it begins anew")
        return False

    async def _follow(self, found: SyncRound, made: Attempt, begin: BeginAttempt) -> list[LinkUse]:
        """Do the aggregator's part until every worker has ended; what this node sent for it."""
        connections = PeerConnections(self._peers, self._node_id, made.box.attempt, begin.wait_s)
        context = AllReduceContext(
            self._node_id, made.peers, begin.aggregator, begin.groups, connections, made.box, begin.wait_s
        )
        steps = begin.steps * begin.hyperparameters.local_epochs
        work = asyncio.create_task(lead(context, below(context, begin.kind), steps, made.box.limit // 4))
        over, stopped = asyncio.create_task(made.over.wait()), asyncio.create_task(found.stop.wait())
        looks = asyncio.create_task(self._look(made))
        try:
            await asyncio.wait({work, over, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if work.done() and work.exception() is None:
                await asyncio.wait({over, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if found.stop.is_set():
                raise StoppedError
            self._evaluator(made, work)
            return list(connections.links.values())
        finally:
            for task in (work, over, stopped, looks):
                task.cancel()
            await asyncio.gather(work, over, stopped, looks, return_exceptions=True)
            await connections.close()

    async def _look(self, made: Attempt) -> None:
        """End the attempt when a worker is dead, does not answer, or has begun anew: the others would wait for it."""
        silences = dict.fromkeys((peer.node_id for peer in made.peers), 0)

        async def one(peer: Peer) -> None:
            try:
                here = await self._calls.alive(peer, made.box.attempt)
            except AgentError as error:
                silences[peer.node_id] += 1
                if silences[peer.node_id] == _MOST_SILENCES:
                    made.broken = BrokenError(error.message, {peer.node_id: error.message})
            else:
                silences[peer.node_id] = 0
                if not here:
                    made.broken = BrokenError(f"{peer.node_id}: its agent was restarted", {})
            if made.broken is not None:
                made.over.set()

        while True:
            await asyncio.sleep(_LOOK_S)
            await asyncio.gather(*map(one, made.peers))

    @staticmethod
    def _evaluator(made: Attempt, work: "asyncio.Task[None]") -> None:
        """BrokenError for an attempt that must be made again, AgentError for one that would end the same way."""
        problems = {name: one.problem for name, one in made.ended.items() if one.problem is not None}
        for name, problem in problems.items():
            if problem.code in _FATAL:
                raise AgentError(problem.code, f"{name}: {problem.message}")
        if not problems and len(made.ended) == len(made.peers):
            return
        if made.broken is not None:
            raise made.broken
        if problems:
            name, problem = next(iter(problems.items()))
            # Who failed by itself is left out; who lost another is asked again, and the lost one does not answer.
            own = {} if problem.code.startswith("peer_") else {name: problem.message}
            raise BrokenError(f"{name}: {problem.message}", own)
        if work.done() and (error := work.exception()) is not None:
            raise BrokenError(str(error.message if isinstance(error, AgentError) else type(error).__name__), {})
        raise BrokenError("a worker has left", {})

"""The aggregator in synchronous rounds: deals out the pooled data, keeps the workers in step, and publishes what they end with.

A worker that is lost ends the attempt: the round begins again at its base with those that still answer, and says so. Nothing
of a broken attempt is used, so whatever was counted is what every worker computed together.
"""

import asyncio
import hashlib
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from workers.agent import tensors
from workers.agent.admission import sound
from workers.agent.autonomy import to_tell
from workers.agent.batches import Encoded
from workers.agent.errors import AgentError, StoppedError
from workers.agent.exchange import Exchange
from workers.agent.logs import Log
from workers.agent.protocol import (
    AggregateReport,
    AggregateRound,
    Decision,
    Evaluation,
    Hyperparameters,
    Link,
    Peer,
    Problem,
    Stopped,
)
from workers.agent.rounds import Watched
from workers.agent.shelf import Shelf
from workers.agent.store import Store
from workers.agent.synchronous import shares
from workers.agent.synchronous.allreduce import Station, below, lead
from workers.agent.synchronous.calls import Calls
from workers.agent.synchronous.messages import Begin, Begun, Ended, Go
from workers.agent.synchronous.replica import length
from workers.agent.synchronous.wires import Postbox, Wires

_MOST_ATTEMPTS = 5
# Failures of what is computed, not of who computes: beginning again would end the same way.
_FATAL = ("diverged",)
_LOOK_S = 2.0
_MOST_SILENCES = 2
T = TypeVar("T")
Validate = Callable[[AggregateRound, str], Awaitable[Evaluation | None]]


class _BrokenError(Exception):
    """An attempt that is over; `lost` are the workers that are left out of the next one, and why."""

    def __init__(self, reason: str, lost: dict[str, str]) -> None:
        super().__init__(reason)
        self.lost = lost


@dataclass(slots=True)
class _Attempt:
    box: Postbox
    peers: list[Peer]
    ended: dict[str, Ended] = field(default_factory=dict)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    broken: _BrokenError | None = None


@dataclass(slots=True)
class _Round:
    request: AggregateRound
    wanted: Hyperparameters
    watched: Watched[AggregateReport]
    dropped: set[str] = field(default_factory=set)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    attempt: _Attempt | None = None
    task: asyncio.Task[None] | None = None

    @property
    def report(self) -> AggregateReport:
        return self.watched.report

    @property
    def key(self) -> tuple[str, int]:
        return self.request.training_id, self.request.round

    def note(self, notice: str) -> None:
        self.watched.change(notices=[*self.report.notices, notice])


class Leader:
    """One round at a time. `validate` measures a new model on the aggregator's validation file."""

    def __init__(
        self, node_id: str, exchange: Exchange, store: Store, shelf: Shelf, validate: Validate, log: Log, untold: list[Decision]
    ) -> None:
        self._node_id = node_id
        self._exchange = exchange
        self._calls = Calls(exchange)
        self._store = store
        self._shelf = shelf
        self._validate = validate
        self._log = log
        self._untold = untold
        self._round: _Round | None = None

    async def start(self, request: AggregateRound, wanted: Hyperparameters) -> AggregateReport:
        """Begin the round, or report if it has begun. `unknown_model`."""
        found = self._round
        same = found is not None and found.key == (request.training_id, request.round)
        if found is not None and same and found.report.state in ("collecting", "done"):
            return found.report
        self._store.need(request.base_digest)
        if found is None or found.key[0] != request.training_id:
            self._shelf.forget_data()
        if found is not None and found.task is not None:
            found.stop.set()
            await asyncio.gather(found.task, return_exceptions=True)
        report = AggregateReport(
            node_id=self._node_id,
            training_id=request.training_id,
            round=request.round,
            state="collecting",
            decisions=to_tell(self._untold),
        )
        self._round = made = _Round(request, wanted, Watched(report, "collecting"))
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

    def box(self, attempt: str) -> Postbox | None:
        """Where vectors of that attempt go; None for any but the one in hand."""
        made = self._round.attempt if self._round is not None else None
        return made.box if made is not None and made.box.attempt == attempt else None

    async def ended(self, body: Ended) -> Stopped:
        made = self._round.attempt if self._round is not None else None
        if made is None or made.box.attempt != body.attempt:
            return Stopped(stopped=True)
        made.ended[body.report.node_id] = body
        if body.problem is not None or len(made.ended) == len(made.peers):
            made.over.set()
        return Stopped(stopped=False)

    async def _run(self, found: _Round) -> None:
        try:
            async with asyncio.timeout(found.request.deadline_s):
                await self._attempts(found)
        except StoppedError:
            found.watched.change(state="stopped")
        except TimeoutError:
            message = f"the workers were not through by the round's deadline of {found.request.deadline_s:g} s"
            found.watched.change(state="failed", problem=Problem(code="deadline", message=message))
        except AgentError as error:
            found.watched.change(state="failed", problem=error.problem)
        except Exception as error:  # noqa: BLE001 - a round that stays open would be waited for until nobody knows why
            message = f"the round failed with {type(error).__name__}"
            found.watched.change(state="failed", problem=Problem(code="agent_failed", message=message))
        finally:
            found.attempt = None
        if found.report.state != "done":
            await self._calls.stop(found.request.workers, found.request.training_id)
        report = found.report
        self._log("synchronous", round=report.round, state=report.state, workers=len(report.accepted))

    async def _attempts(self, found: _Round) -> None:
        data = await asyncio.to_thread(self._pooled, found.request)
        order = found.request.path.peers if found.request.path is not None else found.request.workers
        peers = [peer for peer in order if peer.node_id not in found.dropped]
        for _ in range(_MOST_ATTEMPTS):
            if len(peers) < found.request.quorum:
                message = f"{len(peers)} workers are left; the quorum is {found.request.quorum}"
                raise AgentError("quorum_not_met", message)
            try:
                await self._attempt(found, peers, data)
            except _BrokenError as broken:
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

    def _pooled(self, request: AggregateRound) -> Encoded:
        with self._shelf.lock:
            self._shelf.loaded(request.model, self._store.need(request.base_digest))
            return self._shelf.shard(request.model, request.dataset).training

    async def _attempt(self, found: _Round, peers: list[Peer], data: Encoded) -> None:
        started = time.perf_counter()
        made = _Attempt(Postbox(uuid.uuid4().hex, 4 * await asyncio.to_thread(self._length, found.request)), peers)
        found.attempt = made
        begins = self._begins(found, made, data)
        begun = await self._all(found, made, lambda peer: self._calls.begin(peer, begins[peer.node_id]))
        links: list[Link] = []
        places = {peer.node_id: place for place, peer in enumerate(peers)}

        async def share(peer: Peer) -> None:
            if not begun[peer.node_id].has_share:
                indices = shares.share(len(data), len(peers), places[peer.node_id])
                body = await asyncio.to_thread(shares.packed, data, indices)
                links.append(await self._calls.share(peer, self._node_id, made.box.attempt, body))

        await self._all(found, made, share)
        resume = self._resumes(found, list(begun.values()))
        go = Go(attempt=made.box.attempt, resume=resume)
        await self._all(found, made, lambda peer: self._calls.go(peer, go))
        sent = await self._follow(found, made, begins[peers[0].node_id])
        await self._publish(found, made, [*links, *sent], started)

    def _length(self, request: AggregateRound) -> int:
        with self._shelf.lock:
            return length(self._shelf.network(request.model))

    @staticmethod
    def _content(data: Encoded) -> str:
        digest = hashlib.sha256(data.ids.tobytes() + data.offsets.tobytes())
        digest.update(b"" if data.labels is None else data.labels.tobytes())
        return digest.hexdigest()

    def _begins(self, found: _Round, made: _Attempt, data: Encoded) -> dict[str, Begin]:
        request, peers = found.request, made.peers
        kind = request.path.kind if request.path is not None and len(peers) > 1 else "star"
        names = [peer.node_id for peer in peers]
        groups = [
            kept for group in (request.path.groups if request.path else []) if (kept := [one for one in group if one in names])
        ]
        source = f"{request.training_id}/{self._content(data)}/{','.join(names)}"
        return {
            peer.node_id: Begin(
                training_id=request.training_id,
                round=request.round,
                attempt=made.box.attempt,
                model=request.model,
                base_digest=request.base_digest,
                aggregator=request.self_peer,
                peers=peers,
                kind=kind,
                groups=groups,
                hyperparameters=found.wanted,
                steps=shares.steps(len(data), found.wanted.batch_size),
                share=hashlib.sha256(f"{source}/{place}".encode()).hexdigest(),
                wait_s=request.deadline_s,
            )
            for place, peer in enumerate(peers)
        }

    async def _all(self, found: _Round, made: _Attempt, call: Callable[[Peer], Awaitable[T]]) -> dict[str, T]:
        """Ask every worker; _BrokenError with those that did not answer as they should."""
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
            raise _BrokenError("; ".join(lost.values()) or "stopped", lost)
        return good

    def _resumes(self, found: _Round, begun: Sequence[Begun]) -> bool:
        """Whether the optimizer goes on from the round before: only where every worker still has its state."""
        if all(one.has_moments for one in begun):
            return True
        if found.request.round > 1:
            found.note("not every worker has the optimizer's state of the round before; it begins anew")
        return False

    async def _follow(self, found: _Round, made: _Attempt, begin: Begin) -> list[Link]:
        """Do the aggregator's part until every worker has ended; what this node sent for it."""
        wires = Wires(self._exchange, self._node_id, made.box.attempt, begin.wait_s)
        station = Station(self._node_id, made.peers, begin.aggregator, begin.groups, wires, made.box, begin.wait_s)
        steps = begin.steps * begin.hyperparameters.local_epochs
        work = asyncio.create_task(lead(station, below(station, begin.kind), steps, made.box.limit // 4))
        over, stopped = asyncio.create_task(made.over.wait()), asyncio.create_task(found.stop.wait())
        looks = asyncio.create_task(self._look(made))
        try:
            await asyncio.wait({work, over, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if work.done() and work.exception() is None:
                await asyncio.wait({over, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if found.stop.is_set():
                raise StoppedError
            self._judge(made, work)
            return list(wires.links.values())
        finally:
            for task in (work, over, stopped, looks):
                task.cancel()
            await asyncio.gather(work, over, stopped, looks, return_exceptions=True)
            await wires.close()

    async def _look(self, made: _Attempt) -> None:
        """End the attempt when a worker is dead, does not answer, or has begun anew: the others would wait for it."""
        silences = dict.fromkeys((peer.node_id for peer in made.peers), 0)

        async def one(peer: Peer) -> None:
            try:
                here = await self._calls.alive(peer, made.box.attempt)
            except AgentError as error:
                silences[peer.node_id] += 1
                if silences[peer.node_id] == _MOST_SILENCES:
                    made.broken = _BrokenError(error.message, {peer.node_id: error.message})
            else:
                silences[peer.node_id] = 0
                if not here:
                    made.broken = _BrokenError(f"{peer.node_id}: its agent was restarted", {})
            if made.broken is not None:
                made.over.set()

        while True:
            await asyncio.sleep(_LOOK_S)
            await asyncio.gather(*map(one, made.peers))

    @staticmethod
    def _judge(made: _Attempt, work: "asyncio.Task[None]") -> None:
        """_BrokenError for an attempt that must be made again, AgentError for one that would end the same way."""
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
            raise _BrokenError(f"{name}: {problem.message}", own)
        if work.done() and (error := work.exception()) is not None:
            raise _BrokenError(str(error.message if isinstance(error, AgentError) else type(error).__name__), {})
        raise _BrokenError("a worker has left", {})

    async def _publish(self, found: _Round, made: _Attempt, links: list[Link], started: float) -> None:
        request, reports = found.request, [made.ended[peer.node_id].report for peer in made.peers]
        digests = {one.digest for one in made.ended.values()}
        if len(digests) != 1 or None in digests:
            raise AgentError("replicas_differ", "the workers did not end with the same model")
        digest = digests.pop() or ""
        publishing = time.perf_counter()
        target = self._store.path(request.training_id, digest)
        size, seconds = await self._exchange.fetch(made.peers[0], digest, target)
        await asyncio.to_thread(lambda: sound(target, tensors.read(self._store.need(request.base_digest))))
        links = [*links, Link(source=made.peers[0].node_id, target=self._node_id, bytes=size, seconds=seconds)]
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

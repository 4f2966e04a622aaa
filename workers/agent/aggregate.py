"""The aggregator's rounds: updates are checked at the door, folded in as they come, and the new model is published."""

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path

from workers.agent import tensors
from workers.agent.admission import admit, sound
from workers.agent.consensus.commitment import fault_of
from workers.agent.consensus.committee import committee, rejected, votes_of
from workers.agent.errors import AgentError, DataError
from workers.agent.evaluate import measure
from workers.agent.exchange import Exchange
from workers.agent.freezing import frozen_names
from workers.agent.logs import Log
from workers.agent.protocol import (
    AggregateReport,
    AggregateRound,
    Evaluation,
    Exchanged,
    Fallback,
    Link,
    ModelSpec,
    Peer,
    Problem,
    Receipt,
    Score,
    Scores,
    Stopped,
    TrainingInit,
    TrainingReady,
    TrainReport,
    Vote,
)
from workers.agent.rounds import Watched
from workers.agent.shelf import Shelf
from workers.agent.store import Store
from workers.agent.strategies.fedavg import FedAvg
from workers.agent.strategies.registry import Strategy, strategy_of

_VOTE_WITHIN_S = 60.0
_FALLBACK_GRACE_S = 60.0
_TELL_PAUSES_S = (0.0, 1.0, 3.0)


@dataclass(slots=True)
class _Round:
    request: AggregateRound
    watched: Watched[AggregateReport]
    waiting: set[str]
    strategy: Strategy
    exchanging: bool = False
    exchanged: dict[str, Exchanged] = field(default_factory=dict)
    dropped: set[str] = field(default_factory=set)
    links: list[Link] = field(default_factory=list)
    mean: FedAvg = field(default_factory=FedAvg)
    held: dict[str, tuple[TrainReport, Path]] = field(default_factory=dict)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    seconds: float = 0.0

    @property
    def report(self) -> AggregateReport:
        return self.watched.report

    @property
    def streams(self) -> bool:
        """Whether an update may be folded in as it comes: nobody has to look at it again, or beside the others."""
        return self.request.consensus == "none" and self.strategy.rule is None


class Aggregator:
    """One training at a time. With consensus `none` and a strategy that is a mean, an update is folded in as it comes, so that
    memory holds one model however many workers there are; else updates wait on disk for the committee or for one another."""

    def __init__(self, node_id: str, exchange: Exchange, store: Store, shelf: Shelf, log: Log) -> None:
        self._node_id = node_id
        self._exchange = exchange
        self._store = store
        self._shelf = shelf
        self._log = log
        self._training: TrainingInit | None = None
        self._validates = False
        self._key: tuple[str, int] | None = None
        self._round: _Round | None = None
        self._clock: asyncio.Task[None] | None = None
        self._telling: set[asyncio.Task[None]] = set()

    async def init(self, request: TrainingInit) -> TrainingReady:
        """Publish the first global model, or find the last one here or at one of the sources."""
        if request.base_digest is not None:
            await self._restore(request)
        ready = await asyncio.to_thread(self._init, request)
        if ready.problem is None:
            self._training, self._validates = request, ready.validation_samples is not None
            if self._key is not None and self._key[0] != request.training_id:
                self._round, self._key = None, None
        return ready

    def _init(self, request: TrainingInit) -> TrainingReady:
        with self._shelf.lock:
            if request.base_digest is None:
                network = self._shelf.fresh(request.model)
                saved = self._store.save(request.training_id, tensors.state_of(network.model))
                digest, size = saved.digest, saved.bytes
            else:
                digest, path = request.base_digest, self._store.need(request.base_digest)
                network, size = self._shelf.loaded(request.model, path), path.stat().st_size
            frozen_names(network.model, request.freeze_layers)
            ready = TrainingReady(
                digest=digest, parameters=sum(item.numel() for item in network.model.parameters()), bytes=size
            )
            try:
                samples = None
                if request.validation:
                    samples = len(self._shelf.samples(request.model, request.validation, request.freeze_layers))
            except AgentError as error:
                problem = None if error.code == "no_match" else error.problem
                return ready.model_copy(update={"problem": problem})
        return ready.model_copy(update={"validation_samples": samples})

    async def _restore(self, request: TrainingInit) -> None:
        digest = request.base_digest or ""
        for peer in request.sources:
            if self._store.find(digest) is not None:
                return
            try:
                await self._exchange.pull(peer, digest, self._store.path(request.training_id, digest))
            except AgentError as error:
                self._log("no_copy", node=peer.node_id, problem=error.code)
        self._store.need(digest)

    async def start(self, request: AggregateRound) -> AggregateReport:
        """Begin to collect, or report if that has begun. `unknown_training`, `unknown_model`, `strategy_unavailable`,
        `consensus_unavailable`."""
        key = (request.training_id, request.round)
        if self._round is not None and self._key == key and self._round.report.state in ("collecting", "done"):
            return self._round.report
        if self._training is None or self._training.training_id != request.training_id:
            raise AgentError("unknown_training", "this agent knows no such training", 404)
        strategy = strategy_of(request.strategy)
        if request.consensus not in ("none", "proof-of-learning"):
            raise AgentError("consensus_unavailable", "only 'none' and 'proof-of-learning' are built")
        self._store.need(request.base_digest)
        self._store.clear_updates(request.training_id)
        report = AggregateReport(node_id=self._node_id, training_id=key[0], round=key[1], state="collecting")
        made = _Round(request, Watched(report, "collecting"), {peer.node_id for peer in request.workers}, strategy)
        made.exchanging = request.path is not None
        self._key, self._round = key, made
        if request.fallback is not None:
            self._fall_back(made, request.fallback)
        if self._clock is not None:
            self._clock.cancel()
        self._clock = asyncio.create_task(self._end_at(made, request.deadline_s))
        return report

    async def report(self, training_id: str, number: int, wait_s: float) -> AggregateReport:
        return await self._known(training_id, number).watched.closed(wait_s)

    def _known(self, training_id: str, number: int) -> _Round:
        if self._round is None or self._key != (training_id, number):
            raise AgentError("unknown_round", "this agent knows no such round", 404)
        return self._round

    async def drop(self, training_id: str, number: int, node_ids: list[str]) -> AggregateReport:
        """Wait for these no longer."""
        found = self._known(training_id, number)
        async with found.turn:
            found.dropped |= set(node_ids)
            found.waiting -= set(node_ids)
            if found.exchanging and found.watched.is_open:
                self._fall_back(found, f"{', '.join(sorted(node_ids))} left the round")
            await self._close_if_complete(found)
        return found.report

    def stop(self, training_id: str) -> bool:
        if self._round is None or self._key is None or self._key[0] != training_id or not self._round.watched.is_open:
            return False
        self._round.watched.change(state="stopped")
        return True

    async def _end_at(self, found: _Round, seconds: float) -> None:
        await asyncio.sleep(seconds)
        if found.exchanging:
            async with found.turn:
                if found.exchanging and found.watched.is_open:
                    self._fall_back(found, "the exchange was not done by the round's deadline")
            await asyncio.sleep(min(seconds, _FALLBACK_GRACE_S))
        async with found.turn:
            if found.watched.is_open:
                found.watched.change(late=sorted(found.waiting))
            found.waiting.clear()
            await self._close_if_complete(found)

    def expects(self, training_id: str, number: int, node_id: str) -> bool:
        """Whether an update may be sent at all; asked before its bytes are taken."""
        found = self._round
        if found is None or self._key != (training_id, number) or found.exchanging:
            return False
        return node_id in found.waiting and found.watched.is_open

    async def exchanged(self, training_id: str, number: int, body: Exchanged) -> Receipt:
        """A worker's word on the exchange. Not accepted: the update itself is wanted, as the exchange was given up."""
        found, node_id = self._known(training_id, number), body.report.node_id
        refused = Receipt(accepted=False, bytes=0, problem=Problem(code="exchange_over", message="the exchange is over"))
        async with found.turn:
            if found.exchanging and node_id in found.exchanged:
                return Receipt(accepted=True, bytes=0)
            if not found.exchanging or not found.watched.is_open or node_id not in found.waiting:
                return refused
            if body.problem is not None:
                self._fall_back(found, f"{node_id}: {body.problem.message}")
                return refused
            found.waiting.discard(node_id)
            found.exchanged[node_id] = body
            found.links += body.report.links
            report = body.report.model_copy(update={"links": []})
            found.watched.change(received=[*found.report.received, report])
            await self._close_if_complete(found)
            return Receipt(accepted=True, bytes=0) if found.exchanging else refused

    def _fall_back(self, found: _Round, reason: str) -> None:
        """Give the exchange up: every worker that is left sends its own update here. Called with the round's turn held."""
        found.exchanging = False
        found.exchanged.clear()
        found.links.clear()
        found.mean = FedAvg()
        found.waiting = {peer.node_id for peer in found.request.workers} - found.dropped
        found.watched.change(received=[], bytes_received=None, fallback=reason if found.request.path else None)
        self._log("fell_back", round=found.report.round, reason=reason)
        for peer in found.request.workers:
            if peer.node_id in found.waiting:
                task = asyncio.create_task(self._tell(found, peer, reason))
                self._telling.add(task)
                task.add_done_callback(self._telling.discard)

    async def _tell(self, found: _Round, peer: Peer, reason: str) -> None:
        path = f"/trainings/{found.report.training_id}/rounds/{found.report.round}/fallback"
        for pause in _TELL_PAUSES_S:
            await asyncio.sleep(pause)
            try:
                await self._exchange.ask(peer, path, Fallback(reason=reason), Stopped, within_s=10)
            except AgentError as error:
                self._log("not_told", node=peer.node_id, problem=error.code)
            else:
                return

    async def receive(self, training_id: str, number: int, node_id: str, path: Path, seconds: float) -> Receipt:
        """Judge an update that has arrived as a file within `seconds`. A late, doubled or refused one changes nothing."""
        size = await asyncio.to_thread(_size, path)
        found = self._known(training_id, number)
        async with found.turn:
            if not self.expects(training_id, number, node_id):
                problem = Problem(code="not_expected", message="no update of this node is waited for")
                return Receipt(accepted=False, bytes=size, problem=problem)
            found.waiting.discard(node_id)
            started = time.perf_counter()
            try:
                report = await asyncio.to_thread(self._take, found, node_id, path)
            except AgentError as error:
                self._refuse(found, {node_id: error.message})
                await self._close_if_complete(found)
                return Receipt(accepted=False, bytes=size, problem=error.problem)
            found.seconds += time.perf_counter() - started
            found.links += [*report.links, Link(source=node_id, target=self._node_id, bytes=size, seconds=seconds)]
            found.watched.change(
                received=[*found.report.received, report.model_copy(update={"bytes_sent": size, "links": []})],
                bytes_received=(found.report.bytes_received or 0) + size,
            )
            await self._close_if_complete(found)
        return Receipt(accepted=True, bytes=size)

    def _take(self, found: _Round, node_id: str, path: Path) -> TrainReport:
        base = tensors.read(self._store.need(found.request.base_digest))
        frozen = self._frozen(found.request.model, found.request.freeze_layers)
        update = admit(path, node_id, base, frozen, found.request.compression)
        if found.streams:
            found.mean.add(update.state, update.report.samples or 0)
        else:
            if found.request.consensus == "proof-of-learning":
                ends = (tensors.state_digest(update.state), tensors.state_digest(base))
                fault = fault_of(update.report.commitment, found.request.base_digest, *ends)
                if fault:
                    raise AgentError("no_evidence", fault)
            if frozen or not found.request.compression.is_none:
                # Only parts travelled; who looks at updates again looks at whole models.
                tensors.write(path, update.state)
            kept = self._store.updates(found.request.training_id) / f"{tensors.file_digest(path)}.safetensors"
            path.replace(kept)
            found.held[node_id] = (update.report, kept)
        return update.report

    def _frozen(self, spec: ModelSpec, freeze_layers: int) -> frozenset[str]:
        if not freeze_layers and not spec.lora_rank:
            return frozenset()
        with self._shelf.lock:
            return frozen_names(self._shelf.network(spec).model, freeze_layers)

    @staticmethod
    def _refuse(found: _Round, reasons: dict[str, str]) -> None:
        found.watched.change(rejected={**found.report.rejected, **reasons})

    async def _close_if_complete(self, found: _Round) -> None:
        """Called with the round's turn held."""
        if found.waiting or not found.watched.is_open:
            return
        try:
            await self._close(found)
        except AgentError as error:
            found.watched.change(state="failed", problem=error.problem)
        except Exception as error:  # noqa: BLE001 - a round that stays open would be waited for until nobody knows why
            message = f"the round failed with {type(error).__name__}"
            found.watched.change(state="failed", problem=Problem(code="agent_failed", message=message))
        if found.watched.is_open:
            return  # the exchange was given up: updates are waited for
        report = found.report
        self._log(
            "aggregated",
            round=report.round,
            state=report.state,
            accepted=len(report.accepted),
            rejected=len(report.rejected),
            seconds=report.aggregate_seconds,
        )
        if self._clock is not None and self._clock is not asyncio.current_task():
            self._clock.cancel()

    async def _close(self, found: _Round) -> None:
        request = found.request
        if found.exchanging:
            try:
                await self._take_means(found, request)
            except AgentError as error:
                self._fall_back(found, error.message)
                return
        accepted = [report.node_id for report in found.report.received]
        votes: list[Vote] = []
        consensus_seconds = None
        if found.held and request.consensus == "proof-of-learning":
            voting = time.perf_counter()
            votes = await self._vote(found)
            refused = rejected(list(found.held), votes)
            self._refuse(found, dict(refused))
            accepted = [node_id for node_id in found.held if node_id not in refused]
            consensus_seconds = time.perf_counter() - voting
        if not found.watched.is_open:
            return
        if len(accepted) < request.quorum:
            message = f"{len(accepted)} updates were accepted; the quorum is {request.quorum}"
            raise AgentError("quorum_not_met", message)
        started = time.perf_counter()
        digest = await asyncio.to_thread(self._publish, found, accepted)
        seconds = found.seconds + time.perf_counter() - started
        validation = await asyncio.to_thread(self._validate, request, digest) if self._validates else None
        self._store.prune(request.training_id, {digest, request.base_digest})
        self._store.clear_updates(request.training_id)
        if not found.watched.is_open:  # stopped meanwhile, and told so to whoever waited
            return
        found.watched.change(
            state="done",
            digest=digest,
            accepted=accepted,
            votes=votes,
            aggregate_seconds=seconds,
            consensus_seconds=consensus_seconds,
            validation=validation,
            links=found.links,
        )

    async def _take_means(self, found: _Round, request: AggregateRound) -> None:
        """The exchange's result: one worker's copy, or the mean of every group from its head."""
        peers = {peer.node_id: peer for peer in request.workers}
        means = {node_id: body for node_id, body in found.exchanged.items() if body.digest is not None}
        if request.path is None or not means:
            raise AgentError("no_mean", "no worker has a mean")
        if request.path.kind != "hierarchical":
            first = min(means)
            means = {first: means[first]}
        for node_id, body in sorted(means.items()):
            digest = body.digest or ""
            target = self._store.updates(request.training_id) / f"{digest}.safetensors"
            size, seconds = await self._exchange.fetch(peers[node_id], digest, target)
            state = await asyncio.to_thread(self._sound, request, target)
            found.mean.add(state, body.samples)
            found.links.append(Link(source=node_id, target=self._node_id, bytes=size, seconds=seconds))
            found.watched.change(bytes_received=(found.report.bytes_received or 0) + size)

    def _sound(self, request: AggregateRound, path: Path) -> tensors.State:
        return sound(path, tensors.read(self._store.need(request.base_digest)))

    def _publish(self, found: _Round, accepted: list[str]) -> str:
        rule, server = found.strategy.rule, found.strategy.server
        held = [found.held[node_id] for node_id in accepted if node_id in found.held]
        if rule is not None:
            model = rule([tensors.OnDisk(path) for _, path in held])
        else:
            for report, path in held:
                found.mean.add(tensors.read(path), report.samples or 0)
            model = found.mean.result()
        if server is None:
            return self._store.save(found.request.training_id, model).digest
        request = found.request
        model, memory = server.step(tensors.read(self._store.need(request.base_digest)), model, self._memory(found))
        digest = self._store.save(request.training_id, model).digest
        tensors.write(self._store.memory(request.training_id, digest), memory)
        return digest

    def _memory(self, found: _Round) -> tensors.State:
        """What the server optimiser kept from the round before; empty in the first round, or where it was lost."""
        path = self._store.memory(found.request.training_id, found.request.base_digest)
        if path.is_file():
            return tensors.read(path)
        if found.request.round > 1:
            notice = "the server optimiser's state of the round before is not here; it begins anew"
            found.watched.change(notices=[*found.report.notices, notice])
            self._log("no_server_state", round=found.request.round)
        return {}

    async def _vote(self, found: _Round) -> list[Vote]:
        request = found.request
        peers = {peer.node_id: peer for peer in request.workers if peer.node_id in found.held}
        question = Score(
            training_id=request.training_id,
            model=request.model,
            base_digest=request.base_digest,
            candidates={node_id: path.stem for node_id, (_, path) in found.held.items()},
            source=request.self_peer,
            dataset=request.dataset,
        )
        voters = committee(list(peers), request.training_id, request.round)
        answers = await asyncio.gather(
            *(self._exchange.ask(peers[voter], "/scores", question, Scores, within_s=_VOTE_WITHIN_S) for voter in voters),
            return_exceptions=True,
        )
        votes: list[Vote] = []
        for voter, answer in zip(voters, answers, strict=True):
            if isinstance(answer, Scores):
                votes += votes_of(answer.model_copy(update={"node_id": voter}))
            elif isinstance(answer, AgentError):
                self._log("no_vote", node=voter, problem=answer.code)
            else:
                raise answer
        return votes

    def _validate(self, request: AggregateRound, digest: str) -> Evaluation | None:
        training = self._training
        if training is None or training.validation is None:
            return None
        started = time.perf_counter()
        with self._shelf.lock:
            network = self._shelf.loaded(request.model, self._store.need(digest))
            try:
                samples = self._shelf.samples(request.model, training.validation, request.freeze_layers)
            except DataError as error:
                self._log("no_validation", problem=error.code)
                return None
            found = measure(network, samples)
            self._shelf.remember(digest, found)
        return Evaluation(
            node_id=self._node_id,
            digest=digest,
            samples=len(samples),
            loss=found.loss,
            accuracy=found.accuracy,
            seconds=time.perf_counter() - started,
        )


def _size(path: Path) -> int:
    return path.stat().st_size

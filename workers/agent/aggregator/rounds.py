"""The aggregator's rounds: updates are checked at the door, folded in as they come, and the new model is published."""

import asyncio
import time
from dataclasses import replace
from pathlib import Path

from workers.agent.aggregator.consensus.modes import CONSENSUS
from workers.agent.aggregator.consensus.update_filter import UpdateFilter
from workers.agent.aggregator.exchanges import PeerExchangeCoordinator
from workers.agent.aggregator.first_model import FirstModel
from workers.agent.aggregator.intake import UpdateIntake
from workers.agent.aggregator.publishing import Publisher
from workers.agent.aggregator.round_state import RoundState
from workers.agent.modeling.cache import ModelCache
from workers.agent.peers.client import PeerClient
from workers.agent.protocol.aggregation import AggregateReport, AggregateRound, ExchangeResult
from workers.agent.protocol.common import AgentProblem, Decision, LinkUse, UploadResult
from workers.agent.protocol.inference import EvaluationResult
from workers.agent.protocol.training import InitTraining, InitTrainingResult
from workers.agent.runtime.autonomy import take_pending_decisions
from workers.agent.runtime.errors import AgentError
from workers.agent.runtime.logs import Log
from workers.agent.runtime.long_poll import PollableReport
from workers.agent.secure_aggregation.collecting import SecureRound
from workers.agent.storage.model_store import ModelStore
from workers.agent.strategies.registry import build_strategy

_FALLBACK_GRACE_S = 60.0


class Aggregator:
    """One training at a time. Where nobody judges updates and the strategy is a mean, an update is folded in as it comes, so
    that memory holds one model however many workers there are; else updates wait on disk for judges or for one another."""

    def __init__(
        self,
        node_id: str,
        exchange: PeerClient,
        store: ModelStore,
        cache: ModelCache,
        log: Log,
        pending_decisions: list[Decision] | None = None,
    ) -> None:
        self._node_id = node_id
        self._pending_decisions = [] if pending_decisions is None else pending_decisions
        self._exchanges = PeerExchangeCoordinator(exchange, store, log)
        self._store = store
        self._log = log
        self._first = FirstModel(exchange, store, cache, log)
        self._intake = UpdateIntake(store, cache)
        self._update_filter = UpdateFilter(store, exchange, log)
        self._publisher = Publisher(node_id, store, cache, self._intake, log)
        self._training: InitTraining | None = None
        self._validates = False
        self._key: tuple[str, int] | None = None
        self._round: RoundState | None = None
        self._clock: asyncio.Task[None] | None = None

    async def init(self, request: InitTraining) -> InitTrainingResult:
        """Publish the first global model, or find the last one here or at one of the sources."""
        ready = await self._first.ready(request)
        if ready.problem is None:
            self._training, self._validates = request, ready.validation_samples is not None
            if self._key is not None and self._key[0] != request.training_id:
                self._round, self._key = None, None
        return ready

    async def start(self, request: AggregateRound) -> AggregateReport:
        """Begin to collect, or report if that has begun. `unknown_training`, `unknown_model`, `strategy_unavailable`,
        `consensus_unavailable`."""
        key = (request.training_id, request.round)
        if self._round is not None and self._key == key and self._round.report.state in ("collecting", "done"):
            return self._round.report
        self.need_training(request.training_id)
        strategy = build_strategy(request.strategy)
        if request.consensus not in CONSENSUS:
            raise AgentError("consensus_unavailable", f"built are {', '.join(CONSENSUS)}")
        self._store.require(request.base_digest)
        self._store.clear_updates(request.training_id)
        report = AggregateReport(
            node_id=self._node_id,
            training_id=key[0],
            round=key[1],
            state="collecting",
            decisions=take_pending_decisions(self._pending_decisions),
        )
        made = RoundState(request, PollableReport(report, "collecting"), {peer.node_id for peer in request.workers}, strategy)
        made.exchanging = request.path is not None
        self._key, self._round = key, made
        if request.fallback is not None:
            self._exchanges.fall_back(made, request.fallback)
        if self._clock is not None:
            self._clock.cancel()
        if request.secure_aggregation:
            made.secure = SecureRound(f"{key[0]}/{key[1]}", made.waiting)
            self._clock = asyncio.create_task(self._add_up(made, made.secure))
        else:
            self._clock = asyncio.create_task(self._end_at(made, request.deadline_s))
        return report

    def secure(self, training_id: str, number: int) -> SecureRound:
        """The secure sum of a round. AgentError `unknown_round`."""
        found = self._known(training_id, number).secure
        if found is None:
            raise AgentError("unknown_round", "this round has no secure sum", 404)
        return found

    async def _add_up(self, found: RoundState, secure: SecureRound) -> None:
        await secure.run(found.request.deadline_s)
        async with found.turn:
            if found.watched.is_open:
                late = found.waiting - set(secure.survivors) - found.dropped
                gone = [
                    f"{node_id} left after masks were agreed; shares of others took its own out" for node_id in secure.departed
                ]
                found.watched.change(late=sorted(late), notices=[*found.report.notices, *gone])
            found.waiting.clear()
            await self._close_if_complete(found)

    def need_training(self, training_id: str) -> None:
        """`unknown_training` for any but the one that this agent was made ready for."""
        if self._training is None or self._training.training_id != training_id:
            raise AgentError("unknown_training", "this agent knows no such training", 404)

    async def report(self, training_id: str, number: int, wait_s: float) -> AggregateReport:
        return await self._known(training_id, number).watched.closed(wait_s)

    def _known(self, training_id: str, number: int) -> RoundState:
        if self._round is None or self._key != (training_id, number):
            raise AgentError("unknown_round", "this agent knows no such round", 404)
        return self._round

    async def drop(self, training_id: str, number: int, node_ids: list[str]) -> AggregateReport:
        """Wait for these no longer; those that were dropped before, or are not of the round, change nothing."""
        found = self._known(training_id, number)
        async with found.turn:
            left = set(node_ids) & {peer.node_id for peer in found.request.workers} - found.dropped
            if not left:
                return found.report
            found.dropped |= left
            found.waiting -= left
            if found.secure is not None:
                found.secure.drop(sorted(left))
            if found.exchanging and found.watched.is_open:
                self._exchanges.fall_back(found, f"{', '.join(sorted(left))} left the round")
            await self._close_if_complete(found)
        return found.report

    def stop(self, training_id: str) -> bool:
        if self._round is None or self._key is None or self._key[0] != training_id or not self._round.watched.is_open:
            return False
        if self._round.secure is not None:
            self._round.secure.fail(AgentError("round_stopped", "the round was stopped"))
        self._round.watched.change(state="stopped")
        return True

    async def _end_at(self, found: RoundState, seconds: float) -> None:
        await asyncio.sleep(seconds)
        if found.exchanging:
            async with found.turn:
                if found.exchanging and found.watched.is_open:
                    self._exchanges.fall_back(found, "the exchange was not done by the round's deadline")
            await asyncio.sleep(min(seconds, _FALLBACK_GRACE_S))
        async with found.turn:
            if found.watched.is_open:
                found.watched.change(late=sorted(found.waiting))
            found.waiting.clear()
            await self._close_if_complete(found)

    def expects(self, training_id: str, number: int, node_id: str) -> bool:
        """Whether an update may be sent at all; asked before its bytes are taken."""
        found = self._round
        if found is None or self._key != (training_id, number):
            return False
        if found.secure is not None and not found.secure.expects(node_id):
            return False
        return node_id in found.waiting and found.watched.is_open

    async def exchanged(self, training_id: str, number: int, body: ExchangeResult) -> UploadResult:
        """A worker's word on the exchange. Not accepted: the update itself is wanted, as the exchange was given up."""
        found, node_id = self._known(training_id, number), body.report.node_id
        refused = UploadResult(
            accepted=False, bytes=0, problem=AgentProblem(code="exchange_over", message="the exchange is over")
        )
        async with found.turn:
            if found.exchanging and node_id in found.exchanged:
                return UploadResult(accepted=True, bytes=0)
            if not found.exchanging or not found.watched.is_open or node_id not in found.waiting:
                return refused
            if body.problem is not None:
                self._exchanges.fall_back(found, f"{node_id}: {body.problem.message}")
                return refused
            found.waiting.discard(node_id)
            found.exchanged[node_id] = body
            found.links += body.report.links
            report = body.report.model_copy(update={"links": []})
            found.watched.change(received=[*found.report.received, report])
            await self._close_if_complete(found)
            return UploadResult(accepted=True, bytes=0) if found.exchanging else refused

    async def receive(self, training_id: str, number: int, node_id: str, path: Path, seconds: float) -> UploadResult:
        """Judge an update that has arrived as a file within `seconds`. A late, doubled or refused one changes nothing."""
        size = await asyncio.to_thread(_size, path)
        found = self._known(training_id, number)
        async with found.turn:
            if not self.expects(training_id, number, node_id):
                problem = AgentProblem(code="not_expected", message="no update of this node is waited for")
                return UploadResult(accepted=False, bytes=size, problem=problem)
            if found.exchanging:
                self._exchanges.fall_back(found, f"{node_id} could not tell of the exchange and sent its update")
            found.waiting.discard(node_id)
            started = time.perf_counter()
            try:
                report = await asyncio.to_thread(self._intake.take, found, node_id, path)
            except AgentError as error:
                found.refuse({node_id: error.message})
                if found.secure is not None:
                    found.secure.drop([node_id])
                await self._close_if_complete(found)
                return UploadResult(accepted=False, bytes=size, problem=error.problem)
            found.seconds += time.perf_counter() - started
            found.links += [*report.links, LinkUse(source=node_id, target=self._node_id, bytes=size, seconds=seconds)]
            found.watched.change(
                received=[*found.report.received, report.model_copy(update={"bytes_sent": size, "links": []})],
                bytes_received=(found.report.bytes_received or 0) + size,
            )
            if found.secure is not None:
                found.secure.mark_received(node_id)
            await self._close_if_complete(found)
        return UploadResult(accepted=True, bytes=size)

    async def _close_if_complete(self, found: RoundState) -> None:
        """Called with the round's turn held."""
        if found.waiting or not found.watched.is_open or (found.secure is not None and not found.secure.is_over):
            return
        try:
            await self._close(found)
        except AgentError as error:
            found.watched.change(state="failed", problem=error.problem)
        except Exception as error:  # noqa: BLE001 - a round that stays open would be waited for until nobody knows why
            message = f"the round failed with {type(error).__name__}"
            found.watched.change(state="failed", problem=AgentProblem(code="agent_failed", message=message))
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

    async def _close(self, found: RoundState) -> None:
        request = found.request
        if found.exchanging:
            try:
                await self._exchanges.take_means(found)
            except AgentError as error:
                self._exchanges.fall_back(found, error.message)
                return
        if found.secure is not None and found.secure.problem is not None:
            raise found.secure.problem
        frozen = await asyncio.to_thread(self._intake.frozen, request.model, request.freeze_layers)
        verdict = await self._update_filter.judge(found, frozen)
        accepted = verdict.accepted
        found.refuse(verdict.rejected)
        if verdict.rule is not None:
            found.strategy = replace(found.strategy, rule=verdict.rule)
        found.watched.change(
            votes=verdict.votes,
            audits=verdict.audits,
            consensus_seconds=verdict.seconds,
            notices=[*found.report.notices, *verdict.notices],
        )
        if not found.watched.is_open:
            return
        sound_ones = len(found.report.received) - len(verdict.rejected)
        if not accepted or sound_ones < request.quorum:
            message = f"{sound_ones} updates were accepted; the quorum is {request.quorum}"
            raise AgentError("quorum_not_met", message)
        started = time.perf_counter()
        digest = await asyncio.to_thread(self._publisher.publish, found, accepted)
        seconds = found.seconds + time.perf_counter() - started
        validation = await self.validation(request, digest)
        distance = await asyncio.to_thread(self._exchanges.distance, found, digest)
        self._store.prune(request.training_id, {digest, request.base_digest})
        self._store.clear_updates(request.training_id)
        if not found.watched.is_open:  # stopped meanwhile, and told so to whoever waited
            return
        found.watched.change(
            state="done",
            digest=digest,
            accepted=accepted,
            consensus_distance=distance,
            aggregate_seconds=seconds,
            validation=validation,
            links=found.links,
        )

    async def validation(self, request: AggregateRound, digest: str) -> EvaluationResult | None:
        """A new model on this node's validation file, if it has one."""
        path = self._training.validation if self._training is not None and self._validates else None
        if path is None:
            return None
        return await asyncio.to_thread(self._publisher.validate, request.model, digest, path, request.freeze_layers)


def _size(path: Path) -> int:
    return path.stat().st_size

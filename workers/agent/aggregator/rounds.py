"""The aggregator's rounds: check updates as they arrive, combine them, publish the new model."""

import asyncio
import time
from pathlib import Path

from workers.agent.aggregator.consensus.update_filter import UpdateFilter
from workers.agent.aggregator.consensus_modes import CONSENSUS
from workers.agent.aggregator.exchanges import PeerExchangeCoordinator
from workers.agent.aggregator.first_model import FirstModel
from workers.agent.aggregator.intake import UpdateIntake
from workers.agent.aggregator.publishing import Publisher
from workers.agent.aggregator.round_state import RoundState
from workers.agent.context import AgentContext
from workers.agent.protocol.aggregation import AggregateReport, AggregateRound, ExchangeResult
from workers.agent.protocol.common import AgentProblem, LinkUse, UploadResult
from workers.agent.protocol.inference import EvaluationResult
from workers.agent.protocol.training import ImportModel, ImportModelResult, InitTraining, InitTrainingResult
from workers.agent.runtime.aggregator_report import AggregatorReport, PublishedModel
from workers.agent.runtime.current_round import CurrentRound
from workers.agent.runtime.errors import AgentError, problem_of
from workers.agent.secure_aggregation.collecting import SecureRound
from workers.agent.strategies.registry import build_strategy

_FALLBACK_GRACE_S = 60.0
_NOT_EXPECTED = AgentProblem(code="not_expected", message="no update of this node is expected")
_EXCHANGE_OVER = AgentProblem(code="exchange_over", message="the exchange is over")


class Aggregator:
    """One training at a time.

    An update is added to the mean when it arrives, unless it is judged or the strategy is no mean.
    Memory then holds one model, however many workers there are. Otherwise updates wait on disk.
    """

    def __init__(self, context: AgentContext) -> None:
        self._node_id = context.node_id
        self._pending_decisions = context.pending_decisions
        self._store = context.store
        self._log = context.log
        self._exchanges = PeerExchangeCoordinator(context)
        self._first_model = FirstModel(context)
        self._intake = UpdateIntake(context.store, context.cache)
        self._update_filter = UpdateFilter(context)
        self._publisher = Publisher(context, self._intake)
        self._training: InitTraining | None = None
        self._validates = False
        self._rounds = CurrentRound[RoundState]()
        self._clock: asyncio.Task[None] | None = None

    async def init(self, request: InitTraining) -> InitTrainingResult:
        """Publish the first global model, or restore the last one from here or from a source."""
        ready = await self._first_model.prepare(request)
        if ready.problem is None:
            self._training, self._validates = request, ready.validation_samples is not None
            if self._rounds.of_training(request.training_id) is None:
                self._rounds.round = None
        return ready

    async def import_model(self, request: ImportModel) -> ImportModelResult:
        """Store an exported model, from which a training can begin."""
        return await self._first_model.import_export(request)

    async def start(self, request: AggregateRound) -> AggregateReport:
        """Begin to collect a round's updates. Return the report, also if the round has begun.

        A round that was stopped or has failed begins again.

        Raises: AgentError `unknown_training`, `unknown_model`, `strategy_unavailable` or
        `consensus_unavailable`.
        """
        begun = self._rounds.find(request.training_id, request.round)
        if begun is not None and begun.report.current.state in ("collecting", "done"):
            return begun.report.current
        self.need_training(request.training_id)
        strategy = build_strategy(request.strategy)
        if request.consensus not in CONSENSUS:
            raise AgentError("consensus_unavailable", f"the available consensus modes are {', '.join(CONSENSUS)}")
        self._store.require(request.base_digest)
        self._store.clear_updates(request.training_id)
        decisions = self._pending_decisions.drain()
        report = AggregatorReport.begin(self._node_id, request.training_id, request.round, decisions)
        begun_report = report.current
        self._rounds.round = round_state = RoundState(request, report, strategy)
        if request.fallback is not None:
            self._exchanges.fall_back(round_state, request.fallback)
        if self._clock is not None:
            self._clock.cancel()
        secure = round_state.secure
        clock = self._end_at_deadline(round_state) if secure is None else self._end_after_sum(round_state, secure)
        self._clock = asyncio.create_task(clock)
        return begun_report

    def secure(self, training_id: str, number: int) -> SecureRound:
        """Return a round's secure sum.

        Raises: AgentError `unknown_round`.
        """
        secure = self._rounds.need(training_id, number).secure
        if secure is None:
            raise AgentError("unknown_round", "this round has no secure sum", 404)
        return secure

    def need_training(self, training_id: str) -> None:
        """Raises: AgentError `unknown_training` unless `init` has prepared this training."""
        if self._training is None or self._training.training_id != training_id:
            raise AgentError("unknown_training", "this agent knows no such training", 404)

    async def report(self, training_id: str, number: int, wait_s: float) -> AggregateReport:
        """Raises: AgentError `unknown_round` for any round but the newest."""
        return await self._rounds.need(training_id, number).report.when_ended(wait_s)

    async def new_model(self, training_id: str, number: int, wait_s: float) -> str | None:
        """Return the digest of a round's new model, or None after `wait_s` seconds.

        Raises: AgentError `unknown_round` for any round but the newest, `no_model` (409) once the
        round has ended without one.
        """
        report = self._rounds.need(training_id, number).report
        digest = await report.when_published(wait_s)
        if digest is None and not report.is_open:
            raise AgentError("no_model", "the round has ended without a model", 409)
        return digest

    async def drop(self, training_id: str, number: int, node_ids: list[str]) -> AggregateReport:
        """Stop waiting for these nodes.

        Nodes that were dropped before, or are not of the round, change nothing.
        """
        round_state = self._rounds.need(training_id, number)
        async with round_state.lock:
            lost = round_state.drop(node_ids)
            if not lost:
                return round_state.report.current
            if round_state.exchanging and round_state.report.is_open:
                self._exchanges.fall_back(round_state, f"{', '.join(sorted(lost))} left the round")
            await self._close_if_ready(round_state)
        return round_state.report.current

    def stop(self, training_id: str) -> bool:
        round_state = self._rounds.of_training(training_id)
        if round_state is None or not round_state.report.is_open:
            return False
        round_state.stop()
        return True

    async def _end_after_sum(self, round_state: RoundState, secure: SecureRound) -> None:
        await secure.run(round_state.request.deadline_s)
        async with round_state.lock:
            if round_state.report.is_open:
                for node_id in secure.departed:
                    round_state.add_notice(
                        f"{node_id} left after masks were agreed; shares of the other workers removed its mask"
                    )
            late = set(round_state.waiting) - set(secure.survivors) - set(round_state.dropped)
            round_state.close_to_updates(late)
            await self._close_if_ready(round_state)

    async def _end_at_deadline(self, round_state: RoundState) -> None:
        seconds = round_state.request.deadline_s
        await asyncio.sleep(seconds)
        if round_state.exchanging:
            async with round_state.lock:
                if round_state.exchanging and round_state.report.is_open:
                    self._exchanges.fall_back(round_state, "the exchange was not done by the round's deadline")
            await asyncio.sleep(min(seconds, _FALLBACK_GRACE_S))
        async with round_state.lock:
            round_state.close_to_updates(round_state.waiting)
            await self._close_if_ready(round_state)

    def expects(self, training_id: str, number: int, node_id: str) -> bool:
        """Return whether a node may send its update. Callers ask before they read its bytes."""
        round_state = self._rounds.find(training_id, number)
        return round_state is not None and round_state.expects(node_id)

    async def accept_exchange(self, training_id: str, number: int, result: ExchangeResult) -> UploadResult:
        """Record what a peer exchange gave one worker.

        A receipt that is not accepted asks for the update itself: the exchange is over.
        """
        round_state, node_id = self._rounds.need(training_id, number), result.report.node_id
        accepted = UploadResult(accepted=True, bytes=0)
        refused = UploadResult(accepted=False, bytes=0, problem=_EXCHANGE_OVER)
        async with round_state.lock:
            if round_state.exchanging and node_id in round_state.exchange_results:
                return accepted
            if not round_state.exchanging or not round_state.report.is_open or node_id not in round_state.waiting:
                return refused
            if result.problem is not None:
                self._exchanges.fall_back(round_state, f"{node_id}: {result.problem.message}")
                return refused
            round_state.accept_exchange(result)
            await self._close_if_ready(round_state)
            return accepted if round_state.exchanging else refused

    async def receive(self, training_id: str, number: int, node_id: str, path: Path, seconds: float) -> UploadResult:
        """Check an update that has arrived as a file within `seconds`.

        An update that is late, comes twice or is refused changes nothing in the model.
        """
        size = await asyncio.to_thread(_size, path)
        round_state = self._rounds.need(training_id, number)
        async with round_state.lock:
            if not self.expects(training_id, number, node_id):
                return UploadResult(accepted=False, bytes=size, problem=_NOT_EXPECTED)
            if round_state.exchanging:
                reason = f"{node_id} could not report its exchange and sent its update"
                self._exchanges.fall_back(round_state, reason)
            round_state.stop_waiting_for(node_id)
            started = time.perf_counter()
            try:
                report = await asyncio.to_thread(self._intake.accept, round_state, node_id, path)
            except AgentError as error:
                round_state.reject_update(node_id, error.message)
                await self._close_if_ready(round_state)
                return UploadResult(accepted=False, bytes=size, problem=error.problem)
            check_seconds = time.perf_counter() - started
            link = LinkUse(source=node_id, target=self._node_id, bytes=size, seconds=seconds)
            round_state.accept_update(report, link, check_seconds)
            await self._close_if_ready(round_state)
        return UploadResult(accepted=True, bytes=size)

    async def _close_if_ready(self, round_state: RoundState) -> None:
        """Publish the round's model, if nothing more is waited for. Call it with the lock held."""
        if not round_state.is_ready:
            return
        try:
            await self._close(round_state)
        except Exception as error:  # noqa: BLE001 - the control plane would wait for a round that stays open
            round_state.report.fail(problem_of(error))
        if round_state.report.is_open:
            return  # The exchange is over, and the round now waits for updates.
        report = round_state.report.current
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

    async def _close(self, round_state: RoundState) -> None:
        request, report = round_state.request, round_state.report
        if round_state.exchanging:
            try:
                await self._exchanges.collect_means(round_state)
            except AgentError as error:
                self._exchanges.fall_back(round_state, error.message)
                return
        if round_state.secure is not None and round_state.secure.problem is not None:
            raise round_state.secure.problem
        frozen = await asyncio.to_thread(self._intake.frozen, request.model, request.freeze_layers)
        result = await self._update_filter.judge(round_state, frozen)
        round_state.record_filter(result)
        if not report.is_open:
            return
        _need_quorum(len(report.current.received) - len(result.rejected), result.accepted, request.quorum)
        started = time.perf_counter()
        digest = await asyncio.to_thread(self._publisher.publish, round_state, result.accepted)
        seconds = round_state.check_seconds + time.perf_counter() - started
        # The workers fetch it while it is measured here.
        report.publish(digest)
        validation = await self.validate(request, digest)
        distance = await asyncio.to_thread(self._exchanges.distance, round_state, digest)
        self._store.prune(request.training_id, {digest, request.base_digest})
        self._store.clear_updates(request.training_id)
        if report.is_open:  # A round that was stopped meanwhile stays stopped.
            report.finish(PublishedModel(digest, result.accepted, seconds, round_state.links, validation, distance))

    async def validate(self, request: AggregateRound, digest: str) -> EvaluationResult | None:
        """Measure a new model on this node's validation file, if there is one."""
        path = self._training.validation if self._training is not None and self._validates else None
        if path is None:
            return None
        return await asyncio.to_thread(self._publisher.validate, request, digest, path)


def _need_quorum(count: int, accepted: list[str], quorum: int) -> None:
    """Raises: AgentError `quorum_not_met`. `count` updates were not rejected."""
    if not accepted or count < quorum:
        raise AgentError("quorum_not_met", f"{count} updates were accepted; the quorum is {quorum}")


def _size(path: Path) -> int:
    return path.stat().st_size

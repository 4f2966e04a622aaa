"""A worker's rounds: pull the base, train on the own shard, push the update."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from workers.agent.peers.client import PeerClient
from workers.agent.peers.model_fetcher import ModelFetcher
from workers.agent.peers.outbox import Outbox
from workers.agent.protocol.aggregation import ExchangeResult
from workers.agent.protocol.common import AgentProblem, Decision, LinkUse, UploadResult
from workers.agent.protocol.exchange import DataPath
from workers.agent.protocol.training import TrainReport, TrainRound
from workers.agent.runtime.autonomy import RETRY, allowed, take_pending_decisions
from workers.agent.runtime.errors import AgentError, StoppedError
from workers.agent.runtime.logs import Log
from workers.agent.runtime.long_poll import PollableReport
from workers.agent.secure_aggregation.sending import SecureSender
from workers.agent.storage.model_store import ModelStore
from workers.agent.topologies.averaging import AVERAGING
from workers.agent.topologies.hierarchical import head_of
from workers.agent.topologies.peer_averaging import UPDATE, PeerAveraging
from workers.agent.training.local_round import DeclinedError, LocalTraining

T = TypeVar("T")
_RETRY_PAUSES_S = (0.5, 1.0, 2.0)
_TELL_PAUSES_S = (0.0, 0.5, 1.0, 2.0, 4.0)
_ANSWER_S = 120.0


class Worker:
    def __init__(
        self,
        node_id: str,
        exchange: PeerClient,
        store: ModelStore,
        model_fetcher: ModelFetcher,
        local: LocalTraining,
        log: Log,
        pending_decisions: list[Decision],
    ) -> None:
        self._node_id = node_id
        self._pending_decisions = pending_decisions
        self._peers = exchange
        self._store = store
        self._model_fetcher = model_fetcher
        self._local = local
        self._log = log
        self._key: tuple[str, int] | None = None
        self._round: PollableReport[TrainReport] | None = None
        self._stop = threading.Event()
        self._fallen = asyncio.Event()
        self._request: TrainRound | None = None
        self.parts = Outbox()
        self._secure = SecureSender(node_id, exchange, store)
        self._task: asyncio.Task[None] | None = None

    async def start(self, request: TrainRound) -> TrainReport:
        """Begin a round, or report on it if it has begun. One that was stopped or has failed is begun again; of one that is
        trained and whose update did not arrive, only the update is sent again."""
        key = (request.training_id, request.round)
        if self._round is not None and self._key == key:
            if _unsent(self._round.report, request):
                return self._send_again(request)
            if self._round.state in ("running", "done", "declined"):
                return self._round.report
        if self._key is None or self._key[0] != key[0]:
            self._local.clear_data()
        self._stop.set()
        self._fallen.set()
        self._stop, self._fallen, self._request = threading.Event(), asyncio.Event(), request
        self.parts.begin(key, self._store.folder(request.training_id) / "exchange")
        decisions = take_pending_decisions(self._pending_decisions)
        report = TrainReport(node_id=self._node_id, training_id=key[0], round=key[1], state="running", decisions=decisions)
        self._key, self._round = key, PollableReport(report, "running")
        self._task = asyncio.create_task(self._run(self._round, request, self._stop, self._fallen))
        return report

    def _send_again(self, request: TrainRound) -> TrainReport:
        assert self._round is not None
        trained = self._round.report
        self._round = PollableReport(trained.model_copy(update={"state": "running", "problem": None}), "running")
        self._task = asyncio.create_task(self._run(self._round, request, self._stop, self._fallen, trained))
        return self._round.report

    async def report(self, training_id: str, number: int, wait_s: float) -> TrainReport:
        """AgentError `unknown_round` for any but the newest round."""
        if self._round is None or self._key != (training_id, number):
            raise AgentError("unknown_round", "this agent knows no such round", 404)
        return await self._round.closed(wait_s)

    def stop(self, training_id: str) -> bool:
        if self._round is None or self._key is None or self._key[0] != training_id or not self._round.is_open:
            return False
        self._stop.set()
        self._fallen.set()
        return True

    def fall_back(self, training_id: str, number: int) -> bool:
        """Give up the exchange with the other workers and send the own update to the aggregator, now or once it is there."""
        request = self._request
        if self._round is None or request is None or self._key != (training_id, number):
            return False
        self._fallen.set()
        self.parts.end()
        if self._round.state == "done":
            self._send_again(request)
        return True

    async def _run(
        self,
        watched: PollableReport[TrainReport],
        request: TrainRound,
        stop: threading.Event,
        fallen: asyncio.Event,
        trained: TrainReport | None = None,
    ) -> None:
        try:
            if trained is None:
                await self._train(watched, request, stop, fallen)
            else:
                await self._send(watched, request, trained)
        except StoppedError:
            watched.change(state="stopped")
        except DeclinedError as declined:
            decisions = [*watched.report.decisions, declined.decision]
            problem = AgentProblem(code="declined", message=declined.decision.reason)
            watched.change(state="declined", decisions=decisions, problem=problem)
        except AgentError as error:
            watched.change(state="failed", problem=error.problem)
        except Exception as error:  # noqa: BLE001 - whatever went wrong, whoever polls this round must hear of it
            message = f"the round failed with {type(error).__name__}"
            watched.change(state="failed", problem=AgentProblem(code="agent_failed", message=message))
        report = watched.report
        if report.state != "done" and watched is self._round:
            self.parts.end()
        self._log(
            "round",
            round=report.round,
            state=report.state,
            samples=report.samples,
            train_seconds=report.train_seconds,
            problem=report.problem.code if report.problem else None,
        )

    async def _train(
        self, watched: PollableReport[TrainReport], request: TrainRound, stop: threading.Event, fallen: asyncio.Event
    ) -> None:
        started = time.perf_counter()
        links = await self._tried(watched, request, lambda: self._base(request))
        pull_seconds = time.perf_counter() - started
        watched.report = watched.report.model_copy(update={"links": links})
        report = await asyncio.to_thread(self._local.run, watched, request, stop, pull_seconds)
        # Kept with the figures, so that a push that fails can be made again without training.
        watched.report = report.model_copy(update={"state": "running"})
        exchanging = time.perf_counter()
        if request.path is not None and await self._average_with_peers(watched, request, request.path, report, fallen):
            seconds = time.perf_counter() - exchanging
            watched.change(**{**dict(report), "push_seconds": seconds, "decisions": watched.report.decisions})
            return
        if stop.is_set():
            raise StoppedError
        await self._send(watched, request, report)

    async def _send(self, watched: PollableReport[TrainReport], request: TrainRound, report: TrainReport) -> None:
        pushing = time.perf_counter()
        self._local.own.drop(request.training_id, request.round)
        written = self._local.newest
        if request.secure_aggregation:
            receipt, decisions = await self._secure.send(request, report, written.path, self._stop)
            watched.change(decisions=[*watched.report.decisions, *decisions])
        else:
            receipt = await self._tried(
                watched,
                request,
                lambda: self._peers.push(request.aggregator, request.training_id, request.round, self._node_id, written.path),
            )
        if receipt.accepted:
            await asyncio.to_thread(written.was_accepted)
        final = {
            **dict(report),
            "state": "done",
            "push_seconds": time.perf_counter() - pushing,
            "bytes_sent": receipt.bytes,
            "problem": receipt.problem,
            "decisions": watched.report.decisions,
        }
        watched.change(**final)

    async def _base(self, request: TrainRound) -> list[LinkUse]:
        """Have the round's base: from the head of the own group where there is one, else from the aggregator."""
        head = head_of(request.path, self._node_id) if request.path else None
        return await self._model_fetcher.fetch_from_head(request.training_id, request.base_digest, head, request.aggregator)

    async def _average_with_peers(
        self,
        watched: PollableReport[TrainReport],
        request: TrainRound,
        path: DataPath,
        report: TrainReport,
        fallen: asyncio.Event,
    ) -> bool:
        """Exchange the update with the other workers; False where the update must go to the aggregator after all."""
        update = self._local.model(request.training_id)
        averaging = PeerAveraging(
            self._node_id,
            request.training_id,
            request.round,
            path,
            self._store.require(request.base_digest),
            update,
            report.samples or 0,
            self._peers,
            self.parts,
        )
        averaging.offer(UPDATE, update)
        exchange = asyncio.create_task(self._exchanged(request, averaging, report))
        told = asyncio.create_task(fallen.wait())
        try:
            await asyncio.wait({exchange, told}, return_when=asyncio.FIRST_COMPLETED)
            if not exchange.done():
                return False
            found = exchange.result()
        finally:
            for task in (exchange, told):
                task.cancel()
            await asyncio.gather(exchange, told, return_exceptions=True)
        try:
            accepted = await self._told(request, found, fallen)
        finally:
            # After the aggregator was told: else a worker that this one leaves alone may name it before it names the culprit.
            if found.problem is not None:
                self.parts.end()
        return accepted and not fallen.is_set()

    async def _told(self, request: TrainRound, found: ExchangeResult, fallen: asyncio.Event) -> bool:
        """Whether the aggregator has taken the word on the exchange; an aggregator that is away for a while is told again."""
        path = f"/trainings/{request.training_id}/rounds/{request.round}/exchanged"
        for pause in _TELL_PAUSES_S:
            await asyncio.sleep(pause)
            try:
                receipt = await self._peers.ask(request.aggregator, path, found, UploadResult, within_s=_ANSWER_S)
            except AgentError as error:
                self._log("not_told", round=request.round, problem=error.code)
                if fallen.is_set():
                    break
            else:
                return receipt.accepted
        return False

    async def _exchanged(self, request: TrainRound, averaging: PeerAveraging, report: TrainReport) -> ExchangeResult:
        try:
            mean = await AVERAGING[averaging.path.kind](averaging)
        except AgentError as error:
            self._log("no_exchange", round=request.round, problem=error.code)
            return ExchangeResult(report=report, problem=error.problem)
        full = report.model_copy(update={"links": [*report.links, *averaging.links.values()]})
        if mean is None:
            return ExchangeResult(report=full)
        saved = await asyncio.to_thread(self._store.save, request.training_id, mean.state)
        if averaging.path.kind == "gossip":
            self._local.own.keep(request.training_id, request.round, saved.digest)
        self._store.prune(request.training_id, {request.base_digest, saved.digest}, older=1)
        return ExchangeResult(report=full, digest=saved.digest, samples=mean.samples)

    async def _tried(
        self, watched: PollableReport[TrainReport], request: TrainRound, transfer: Callable[[], Awaitable[T]]
    ) -> T:
        """A transfer, tried again where the node's autonomy allows it."""
        for pause in _RETRY_PAUSES_S if allowed(RETRY, request.autonomy) else ():
            try:
                return await transfer()
            except AgentError as error:
                decision = RETRY.decision(f"{error.message}; trying again in {pause:g} s")
                watched.change(decisions=[*watched.report.decisions, decision])
                await asyncio.sleep(pause)
        return await transfer()


def _unsent(report: TrainReport, request: TrainRound) -> bool:
    if report.state == "done":
        return request.resend
    return report.state == "failed" and report.problem is not None and report.problem.code == "push_failed"

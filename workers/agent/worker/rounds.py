"""A worker's rounds: pull the base model, train on the worker's own shard, push the update."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from workers.agent.context import AgentContext
from workers.agent.peers.outbox import Outbox
from workers.agent.protocol.common import LinkUse
from workers.agent.protocol.training import TrainReport, TrainRound
from workers.agent.runtime.autonomy import RETRY, allowed
from workers.agent.runtime.current_round import CurrentRound
from workers.agent.runtime.errors import AgentError, StoppedError, problem_of
from workers.agent.runtime.retries import retry
from workers.agent.runtime.worker_report import WorkerReport
from workers.agent.secure_aggregation.sending import SecureSender
from workers.agent.topologies.hierarchical import head_of
from workers.agent.training.local_round import DeclinedError, LocalTraining
from workers.agent.worker.peer_exchange import PeerExchange
from workers.agent.worker.round_state import WorkerRound

T = TypeVar("T")
_RETRY_PAUSES_S = (0.5, 1.0, 2.0)


class Worker:
    """One round at a time: a new round ends the one before."""

    def __init__(self, context: AgentContext) -> None:
        self._node_id = context.node_id
        self._pending_decisions = context.pending_decisions
        self._peers = context.peers
        self._store = context.store
        self._fetcher = context.fetcher
        self._log = context.log
        self._local_training = LocalTraining(context.node_id, context.store, context.cache)
        self.outbox = Outbox()
        self._exchange = PeerExchange(context, self._local_training, self.outbox)
        self._secure = SecureSender(context.node_id, context.peers, context.store)
        self._rounds = CurrentRound[WorkerRound]()
        self._task: asyncio.Task[None] | None = None

    async def start(self, request: TrainRound) -> TrainReport:
        """Begin a round. Return the report, also if the round has begun.

        A round that was stopped or has failed begins again. If a round is trained and its update
        did not arrive, only the update is sent again.
        """
        begun = self._rounds.find(request.training_id, request.round)
        if begun is not None:
            if _must_send_again(begun.report.current, request):
                return self._send_again(begun, request)
            if begun.report.current.state in ("running", "done", "declined"):
                return begun.report.current
        if self._rounds.of_training(request.training_id) is None:
            self._local_training.clear_data()
        if self._rounds.round is not None:
            self._rounds.round.end()
        self.outbox.begin((request.training_id, request.round), self._store.folder(request.training_id) / "exchange")
        decisions = self._pending_decisions.drain()
        report = WorkerReport.begin(self._node_id, request.training_id, request.round, decisions)
        self._rounds.round = worker_round = WorkerRound(request, report)
        self._task = asyncio.create_task(self._run(worker_round, self._train(worker_round)))
        return report.current

    def _send_again(self, begun: WorkerRound, request: TrainRound) -> TrainReport:
        trained = begun.report.current
        self._rounds.round = worker_round = begun.reopened(request)
        self._task = asyncio.create_task(self._run(worker_round, self._send(worker_round, trained)))
        return worker_round.report.current

    async def report(self, training_id: str, number: int, wait_s: float) -> TrainReport:
        """Raises: AgentError `unknown_round` for any round but the newest."""
        return await self._rounds.need(training_id, number).report.when_ended(wait_s)

    async def settled(self, request: TrainRound, wait_s: float) -> TrainReport:
        """Return the report once nothing more is done for the round, or after `wait_s` seconds.

        Raises: AgentError `unknown_round` for any round but the newest.
        """
        return await self._rounds.need(request.training_id, request.round).report.when_settled(wait_s)

    def stop(self, training_id: str) -> bool:
        worker_round = self._rounds.of_training(training_id)
        if worker_round is None or not worker_round.report.is_open:
            return False
        worker_round.end()
        return True

    def fall_back(self, training_id: str, number: int) -> bool:
        """End the peer exchange. Send the update to the aggregator, as soon as there is one."""
        worker_round = self._rounds.find(training_id, number)
        if worker_round is None:
            return False
        worker_round.exchange_over.set()
        self.outbox.end()
        if worker_round.report.current.state == "done":
            self._send_again(worker_round, worker_round.request)
        return True

    async def _run(self, worker_round: WorkerRound, work: Awaitable[None]) -> None:
        """Do the round's work. The report says how it ended."""
        try:
            await work
        except StoppedError:
            worker_round.report.stop()
        except DeclinedError as declined:
            worker_round.report.decline(declined.decision)
        except Exception as error:  # noqa: BLE001 - the report must end, whatever went wrong
            worker_round.report.fail(problem_of(error))
        report = worker_round.report.current
        if report.state != "done" and worker_round is self._rounds.round:
            self.outbox.end()
        self._log(
            "round",
            round=report.round,
            state=report.state,
            samples=report.samples,
            train_seconds=report.train_seconds,
            problem=report.problem.code if report.problem else None,
        )
        try:
            if report.state == "done" and report.problem is None and worker_round.request.path is None:
                await self._copy_new_model(worker_round)
        finally:
            worker_round.report.settle()

    async def _copy_new_model(self, worker_round: WorkerRound) -> None:
        """Fetch the round's new model as soon as the aggregator has it, until this round is over.

        Without it the control plane asks for a copy.
        """
        request, replica = worker_round.request, None
        try:
            while replica is None and worker_round is self._rounds.round and not worker_round.stop.is_set():
                replica = await self._fetcher.fetch_new_model(request)
        except Exception as error:  # noqa: BLE001 - the round is done without a copy too
            self._log("no_copy", node=request.aggregator.node_id, problem=problem_of(error).code)
        if replica is not None:
            worker_round.report.add_replica(replica)

    async def _train(self, worker_round: WorkerRound) -> None:
        request, report = worker_round.request, worker_round.report
        started = time.perf_counter()
        report.set_links(await self._with_retries(worker_round, lambda: self._pull_base(request)))
        pull_seconds = time.perf_counter() - started
        trained = await asyncio.to_thread(self._local_training.run, report, request, worker_round.stop, pull_seconds)
        report.record_training(trained)
        exchanging = time.perf_counter()
        if request.path is not None and await self._exchange.average(worker_round, request.path, trained):
            report.finish_exchange(time.perf_counter() - exchanging)
            return
        if worker_round.stop.is_set():
            raise StoppedError
        await self._send(worker_round, trained)

    async def _send(self, worker_round: WorkerRound, trained: TrainReport) -> None:
        """Push the update to the aggregator. End the round with the answer."""
        request, started = worker_round.request, time.perf_counter()
        self._local_training.gossip_models.drop(request.training_id, request.round)
        written = self._local_training.newest
        if request.secure_aggregation:
            receipt, decisions = await self._secure.send(request, trained, written.path, worker_round.stop)
            worker_round.report.add_decisions(*decisions)
        else:
            receipt = await self._with_retries(
                worker_round,
                lambda: self._peers.push(request.aggregator, request.training_id, request.round, self._node_id, written.path),
            )
        if receipt.accepted:
            await asyncio.to_thread(written.was_accepted)
        worker_round.report.finish_push(receipt, time.perf_counter() - started)

    async def _pull_base(self, request: TrainRound) -> list[LinkUse]:
        """Fetch the round's base from the group's head, or without one from the aggregator."""
        head = head_of(request.path, self._node_id) if request.path else None
        return await self._fetcher.fetch_from_head(request.training_id, request.base_digest, head, request.aggregator)

    async def _with_retries(self, worker_round: WorkerRound, transfer: Callable[[], Awaitable[T]]) -> T:
        """Return the transfer's result. Retry it if the node's autonomy allows that."""

        def add_decision(error: AgentError, pause_s: float) -> None:
            decision = RETRY.decision(f"{error.message}; trying again in {pause_s:g} s")
            worker_round.report.add_decisions(decision)

        pauses_s = _RETRY_PAUSES_S if allowed(RETRY, worker_round.request.autonomy) else ()
        return await retry(transfer, pauses_s, add_decision)


def _must_send_again(report: TrainReport, request: TrainRound) -> bool:
    if report.state == "done":
        return request.resend
    return report.state == "failed" and report.problem is not None and report.problem.code == "push_failed"

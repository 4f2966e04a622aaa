"""A worker's part in a peer exchange, and its result for the aggregator."""

import asyncio

from workers.agent.context import AgentContext
from workers.agent.peers.outbox import Outbox
from workers.agent.protocol.aggregation import ExchangeResult
from workers.agent.protocol.common import UploadResult
from workers.agent.protocol.exchange import DataPath
from workers.agent.protocol.training import TrainReport, TrainRound
from workers.agent.runtime.errors import AgentError
from workers.agent.runtime.long_poll import validated_copy
from workers.agent.runtime.retries import retry
from workers.agent.runtime.waiting import result_unless_set
from workers.agent.topologies.averaging import AVERAGING
from workers.agent.topologies.peer_averaging import UPDATE, PeerAveraging
from workers.agent.training.local_round import LocalTraining
from workers.agent.worker.round_state import WorkerRound

_REPORT_PAUSES_S = (0.5, 1.0, 2.0, 4.0)
_ANSWER_S = 120.0


class PeerExchange:
    def __init__(self, context: AgentContext, local_training: LocalTraining, outbox: Outbox) -> None:
        self._node_id = context.node_id
        self._peers = context.peers
        self._store = context.store
        self._log = context.log
        self._local_training = local_training
        self._outbox = outbox

    async def average(self, worker_round: WorkerRound, path: DataPath, trained: TrainReport) -> bool:
        """Average the update with the other workers and report the result to the aggregator.

        Return False if the update itself must go to the aggregator.
        """
        request, exchange_over = worker_round.request, worker_round.exchange_over
        averaging = self._averaging(request, path, trained)
        averaging.offer(UPDATE, averaging.update)
        result = await result_unless_set(exchange_over, self._average(request, averaging, trained))
        if result is None:
            return False
        try:
            accepted = await self._report(request, result, exchange_over)
        finally:
            # Only after the aggregator knows the problem. A worker that waits for this one would
            # otherwise blame it first, and not the worker that caused the problem.
            if result.problem is not None:
                self._outbox.end()
        return accepted and not exchange_over.is_set()

    def _averaging(self, request: TrainRound, path: DataPath, trained: TrainReport) -> PeerAveraging:
        return PeerAveraging(
            node_id=self._node_id,
            training_id=request.training_id,
            number=request.round,
            path=path,
            base=self._store.require(request.base_digest),
            update=self._local_training.model(request.training_id),
            samples=trained.samples or 0,
            peer_client=self._peers,
            outbox=self._outbox,
        )

    async def _average(self, request: TrainRound, averaging: PeerAveraging, trained: TrainReport) -> ExchangeResult:
        try:
            mean = await AVERAGING[averaging.path.kind](averaging)
        except AgentError as error:
            self._log("no_exchange", round=request.round, problem=error.code)
            return ExchangeResult(report=trained, problem=error.problem)
        report = validated_copy(trained, links=[*trained.links, *averaging.links.values()])
        if mean is None:
            return ExchangeResult(report=report)
        saved = await asyncio.to_thread(self._store.save, request.training_id, mean.state)
        if averaging.path.kind == "gossip":
            self._local_training.gossip_models.link(request.training_id, request.round, saved.digest)
        self._store.prune(request.training_id, {request.base_digest, saved.digest}, older=1)
        return ExchangeResult(report=report, digest=saved.digest, samples=mean.samples)

    async def _report(self, request: TrainRound, result: ExchangeResult, exchange_over: asyncio.Event) -> bool:
        """Return whether the aggregator has accepted the result. Retry if it does not answer."""
        path = f"/trainings/{request.training_id}/rounds/{request.round}/exchanged"

        def log(error: AgentError) -> None:
            self._log("not_told", round=request.round, problem=error.code)

        def log_or_give_up(error: AgentError, _pause_s: float) -> None:
            if exchange_over.is_set():
                raise error
            log(error)

        try:
            receipt = await retry(
                lambda: self._peers.ask(request.aggregator, path, result, UploadResult, within_s=_ANSWER_S),
                _REPORT_PAUSES_S,
                log_or_give_up,
            )
        except AgentError as error:
            log(error)
            return False
        return receipt.accepted

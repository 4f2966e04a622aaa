"""Training and aggregation: the agents are asked to run the round, and followed for one long poll.

Every request may be repeated. An agent answers a second request for a round with its report.
"""

import asyncio
import logging
import time
from collections.abc import Collection, Mapping

from workers.agent.protocol.aggregation import AggregateReport, AggregateRound
from workers.agent.protocol.training import TrainReport, TrainRound
from workers.agent_client import AgentClient, AgentRefusedError, AgentUnreachableError
from workers.steps.rounds.context import RoundContext
from workers.steps.rounds.observation import RoundObservation
from workers.steps.rounds.preparation import prepare_again
from workers.steps.rounds.requests import RoundPeers
from workers.steps.shared.node_snapshot import NodeSnapshot, agent_of

log = logging.getLogger(__name__)
_POLL_S = 20.0
# While a node is away, its return or its end must be noticed soon.
_POLL_WHILE_AWAY_S = 2.0
_SHARE_OF_POLL = 0.95
_COPY_S = 120.0
_FORGOTTEN = ("unknown_training", "unknown_model", "unknown_round")
# A transfer between two agents failed. It is tried again before the worker is left out.
_TRANSFER_FAILED = ("push_failed", "pull_failed")
_NOT_BEGUN_S = 0.5
_PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0)


async def train_and_aggregate(this: RoundContext, peers: RoundPeers, observation: RoundObservation) -> None:
    """Begin the round at the aggregator and the workers, and follow it until the poll ends.

    Raises:
        AgentRefusedError: the aggregator refused the round.
    """
    try:
        agent = await agent_of(this.context, this.aggregator)
        await _Round(this, peers, observation, agent).follow()
    except AgentUnreachableError as error:
        log.warning("%s: %s", this.training.training_id, error)
        observation.lose_aggregator()


class _Round:
    """A round while its agents are followed. What they report goes into `observation`."""

    def __init__(self, this: RoundContext, peers: RoundPeers, observation: RoundObservation, aggregator: AgentClient) -> None:
        self._this = this
        self._peers = peers
        self._observation = observation
        self._aggregator = aggregator
        self._training_id = this.training.training_id
        self._ends_at = 0.0

    async def follow(self) -> None:
        observation = self._observation
        to_send = self._train_requests()
        observation.add_aggregate_report(await self._begin())
        await self._drop([*self._this.lost, *self._this.excluded])
        if not observation.is_collecting:
            return
        self._ends_at = time.monotonic() + (_POLL_WHILE_AWAY_S if self._this.training.recovering else _POLL_S)
        workers = {
            node.node_id: asyncio.create_task(self._follow_worker(node, to_send.get(node.node_id)))
            for node in self._peers.workers
        }
        try:
            await self._poll_aggregator(workers.values())
            await self._wait_for_copies(workers)
        finally:
            for worker in workers.values():
                worker.cancel()
            await asyncio.gather(*workers.values(), return_exceptions=True)

    @property
    def _left_s(self) -> float:
        return max(0.0, self._ends_at - time.monotonic())

    def _train_requests(self) -> dict[str, TrainRound]:
        """One request for each worker. A synchronous round has none: the aggregator leads it."""
        aggregator = self._peers.aggregator
        if aggregator is None or not self._this.spec.federated:
            return {}
        return {node.node_id: self._peers.train_request(node, aggregator, self._observation) for node in self._peers.workers}

    async def _begin(self) -> AggregateReport:
        """Start to collect. An agent that was restarted gets back what it needs."""
        peer = self._peers.aggregator
        if peer is None:
            raise AgentUnreachableError(f"{self._this.aggregator.node_id} cannot be reached")
        request = self._peers.aggregate_request(peer, self._observation)
        try:
            return await self._aggregator.aggregate(request)
        except AgentRefusedError as error:
            if error.code not in _FORGOTTEN:
                raise
        return await self._begin_again(request)

    async def _begin_again(self, request: AggregateRound) -> AggregateReport:
        training = self._this.training
        ready = await prepare_again(self._this.context, training, self._this.aggregator, self._aggregator)
        if ready.digest != request.base_digest:
            raise AgentRefusedError("other_model", "its first model is not the one that this training began with")
        # The updates that the old agent had are gone, so every worker is asked again.
        return await self._aggregator.aggregate(request.model_copy(update={"fallback": "the aggregator's agent was restarted"}))

    async def _drop(self, node_ids: list[str]) -> None:
        """Ask the aggregator not to wait for these workers."""
        if node_ids and self._observation.is_collecting:
            report = await self._aggregator.drop(self._training_id, self._this.number, node_ids)
            self._observation.add_aggregate_report(report)
            self._observation.set_dropped(node_ids)

    async def _poll_aggregator(self, workers: Collection[asyncio.Task[None]]) -> None:
        """Wait until the round has ended, the poll is over, or a worker cannot be reached."""
        observation, poll = self._observation, None
        try:
            while observation.is_collecting and not observation.unreachable and self._left_s > 0:
                poll = poll or asyncio.create_task(
                    self._aggregator.aggregate_report(self._training_id, self._this.number, self._left_s)
                )
                await asyncio.wait({*(task for task in workers if not task.done()), poll}, return_when=asyncio.FIRST_COMPLETED)
                if poll.done():
                    observation.add_aggregate_report(poll.result())
                    poll = None
                await self._drop(observation.to_drop)
        finally:
            if poll is not None:
                poll.cancel()
                await asyncio.gather(poll, return_exceptions=True)

    async def _wait_for_copies(self, workers: Mapping[str, asyncio.Task[None]]) -> None:
        """Let the workers whose updates count fetch the new model."""
        aggregate = self._observation.aggregate
        if aggregate is None or aggregate.state != "done" or self._this.data_path != "star":
            return
        fetching = {report.node_id: workers[report.node_id] for report in aggregate.received if report.node_id in workers}
        if not fetching:
            return
        await asyncio.wait(fetching.values(), timeout=_COPY_S)
        for node_id, task in fetching.items():
            if not task.done():
                self._observation.set_silent(node_id)

    async def _follow_worker(self, node: NodeSnapshot, request: TrainRound | None) -> None:
        try:
            agent = await agent_of(self._this.context, node)
            if request is None:
                await self._watch(node, agent)
            else:
                await self._train(node, agent, request)
        except AgentUnreachableError as error:
            log.warning("%s: %s", self._training_id, error)
            self._observation.set_unreachable(node.node_id, "its agent stopped answering")
        except AgentRefusedError as error:
            if request is None:
                log.warning("%s: %s: %s", self._training_id, node.node_id, error)
            else:
                self._observation.set_failed(node.node_id, f"{error.message} ({error.code})")

    async def _train(self, node: NodeSnapshot, agent: AgentClient, request: TrainRound) -> None:
        """Start a worker's round and follow it to its end.

        A worker that is done sends its update again if the aggregator does not have it.
        """
        request = request.model_copy(update={"resend": self._observation.waits_for(node.node_id)})
        pauses = iter(_PAUSES_S)
        while True:
            # The answer comes before the poll is over.
            report = await agent.train(request, self._left_s * _SHARE_OF_POLL)
            self._observation.add_report(node.node_id, report)
            if not _transfer_failed(report):
                break
            pause_s = next(pauses, None)
            if pause_s is None:
                break
            if pause_s > self._left_s:
                return
            await asyncio.sleep(pause_s)
        self._note_end(node, report)

    def _note_end(self, node: NodeSnapshot, report: TrainReport) -> None:
        problem = report.problem
        if report.state == "failed":
            reason = f"{problem.message} ({problem.code})" if problem else "no reason given"
            self._observation.set_failed(node.node_id, reason)
        elif report.state == "declined":
            self._observation.set_declined(node.node_id, problem.message if problem else "no reason given")

    async def _watch(self, node: NodeSnapshot, agent: AgentClient) -> None:
        """Follow a worker of a synchronous round. One that has not begun yet is asked again."""
        while (left_s := self._left_s) > 0:
            try:
                report = await agent.train_report(self._training_id, self._this.number, left_s)
            except AgentRefusedError as error:
                if error.code not in _FORGOTTEN:
                    raise
                await asyncio.sleep(min(_NOT_BEGUN_S, left_s))
                continue
            self._observation.add_report(node.node_id, report)
            if report.state != "running":
                return


def _transfer_failed(report: TrainReport) -> bool:
    return report.state == "failed" and report.problem is not None and report.problem.code in _TRANSFER_FAILED

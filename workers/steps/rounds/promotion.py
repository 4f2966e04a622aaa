"""Consensus `raft`: a worker takes the place of an aggregator whose sandbox is gone.

The control plane calls the election, and the workers decide it. A candidate wins a term with the
votes of more than half of all workers that the training began with. Each voter must hold the last
committed model. A round is committed once that many workers hold its model (`rounds.run`).

If a candidate is not elected, the next one stands in a new term. Without a majority the training
fails, and can be resumed. This is the election and commit rule of Raft (Ongaro and Ousterhout,
USENIX ATC 2014), not its log: the control plane's database holds what is committed. An agent that
only died is started again in its sandbox, as under every consensus.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from sqlalchemy import select

from api.domain.consensus import majority
from api.domain.events import EventType
from api.domain.records import FailureReason
from api.domain.steps import Step
from api.services.lookup import locked_cluster
from api.store import events, leases
from api.store.tables import NodeRow, TrainingRow
from workers.agent.protocol.consensus import RequestVote, VoteResult
from workers.agent_client import AgentCallError
from workers.context import Context
from workers.steps.shared.lease import act
from workers.steps.shared.node_snapshot import NodeSnapshot, agent_of
from workers.steps.shared.training_snapshot import TrainingSnapshot, end_training, wait_and_retry

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Elected:
    """The new aggregator, and who has voted for it in which term."""

    node_id: str
    term: int
    voters: Sequence[str]


def promote(context: Context, training: TrainingSnapshot, token: str) -> None:
    """Elect the training's next aggregator among its workers, or fail the training."""
    needed = majority(len(training.planned_workers))
    if len(training.workers) < needed and training.recovering:
        wait_and_retry(context, training, token)
        return
    candidates = sorted(training.workers, key=lambda node: "aggregation" not in node.capabilities)
    term = training.term
    # Each stands twice: voters may know later terms of failed elections, and name them.
    for candidate in (*candidates, *candidates):
        term += 1
        votes = act(context, TrainingRow, training.training_id, token, partial(_vote, context, training, candidate, term))
        granted = sorted(vote.node_id for vote in votes if vote.granted)
        if candidate.node_id in granted and len(granted) >= needed:
            _apply(context, training, token, _Elected(candidate.node_id, term, granted))
            return
        log.info("%s: %s has %d of %d votes in term %d", training.training_id, candidate.node_id, len(granted), needed, term)
        term = max([term, *(vote.term for vote in votes)])
    detail = f"The aggregator {training.aggregator_id} is lost, and no worker was elected: {needed} votes are needed."
    end_training(context, training, token, "failed", FailureReason(code="no_majority", detail=detail))


async def _vote(context: Context, training: TrainingSnapshot, candidate: NodeSnapshot, term: int) -> list[VoteResult]:
    """Ask every worker for its vote. A worker that does not answer has none."""
    request = RequestVote(
        training_id=training.training_id,
        term=term,
        candidate=candidate.node_id,
        digest=training.digest if training.completed_rounds else None,
    )

    async def vote_of(node: NodeSnapshot) -> VoteResult | None:
        try:
            agent = await agent_of(context, node)
            return (await agent.vote(request)).model_copy(update={"node_id": node.node_id})
        except AgentCallError as error:
            log.info("%s: %s has no vote: %s", training.training_id, node.node_id, error)
            return None

    votes = await asyncio.gather(*map(vote_of, training.workers))
    return [vote for vote in votes if vote is not None]


def _apply(context: Context, training: TrainingSnapshot, token: str, elected: _Elected) -> None:
    with context.database.unit_of_work() as uow:
        session = uow.session
        locked_cluster(session, training.cluster_id)
        row = leases.held(session, TrainingRow, training.training_id, token)
        for node in session.scalars(select(NodeRow).where(NodeRow.cluster_id == row.cluster_id)):
            node.acts_as_aggregator = node.id == elected.node_id
        row.former_aggregators = [*row.former_aggregators, row.aggregator_id]
        row.aggregator_id, row.term = elected.node_id, elected.term
        events.emit(
            session,
            row.cluster_id,
            EventType.TRAINING_AGGREGATOR_PROMOTED,
            {
                "training_id": row.id,
                "from": training.aggregator_id,
                "to": elected.node_id,
                "term": elected.term,
                "votes": list(elected.voters),
                "completed_rounds": training.completed_rounds,
                "digest": training.digest,
            },
            training_id=row.id,
        )
        leases.release(row, 0)
        uow.enqueue(Step.TRAININGS_ADVANCE, row.id)

"""Consensus `raft`: a training whose aggregator's sandbox is gone goes on under one of its workers.

The control plane calls the election, the workers decide it: a candidate wins a term with the votes of more than half of all
workers that the training began with, each of which holds the last committed model. A round is committed once so many hold
its model (`rounds.run`). A candidate that is not elected is followed by the next, each in a term of its own; without a
majority the training fails and can be resumed. This is Raft's election and commit rule (Ongaro and Ousterhout, USENIX ATC
2014), not its log: what is committed stands in the control plane's database. An agent that only died is started again in its
sandbox as ever.
"""

import asyncio
import logging
from collections.abc import Sequence
from functools import partial

from sqlalchemy import select

from api.domain.consensus import majority
from api.services.lookup import locked_cluster
from api.store import events, leases
from api.store.tables import NodeRow, TrainingRow
from workers.agent.protocol.consensus import RequestVote, VoteResult
from workers.agent_client import AgentCallError
from workers.context import Context
from workers.steps.shared.lease import act
from workers.steps.shared.node_snapshot import NodeSnapshot, agent_of
from workers.steps.shared.training_snapshot import TrainingSnapshot, end, wait_and_retry

log = logging.getLogger(__name__)


def promote(context: Context, job: TrainingSnapshot, token: str) -> None:
    """Elect the training's next aggregator among its workers, or fail the training."""
    needed = majority(len(job.planned_workers))
    if len(job.workers) < needed and job.recovering:
        wait_and_retry(context, job, token)
        return
    candidates = sorted(job.workers, key=lambda member: "aggregation" not in member.capabilities)
    term = job.term
    # Twice: voters may know of terms that came to nothing, and name them.
    for candidate in (*candidates, *candidates):
        term += 1
        votes = act(context, TrainingRow, job.training_id, token, partial(_ballot, context, job, candidate, term))
        granted = sorted(vote.node_id for vote in votes if vote.granted)
        if candidate.node_id in granted and len(granted) >= needed:
            _apply(context, job, token, candidate, term, granted)
            return
        log.info("%s: %s has %d of %d votes in term %d", job.training_id, candidate.node_id, len(granted), needed, term)
        term = max([term, *(vote.term for vote in votes)])
    detail = f"The aggregator {job.aggregator_id} is lost, and no worker was elected: {needed} votes are needed."
    end(context, job, token, "failed", {"code": "no_majority", "detail": detail})


async def _ballot(context: Context, job: TrainingSnapshot, candidate: NodeSnapshot, term: int) -> list[VoteResult]:
    ballot = RequestVote(
        training_id=job.training_id,
        term=term,
        candidate=candidate.node_id,
        digest=job.digest if job.completed_rounds else None,
    )

    async def one(member: NodeSnapshot) -> VoteResult | None:
        try:
            async with agent_of(context, member) as agent:
                return (await agent.vote(ballot)).model_copy(update={"node_id": member.node_id})
        except AgentCallError as error:
            log.info("%s: %s has no vote: %s", job.training_id, member.node_id, error)
            return None

    return [vote for vote in await asyncio.gather(*map(one, job.workers)) if vote is not None]


def _apply(context: Context, job: TrainingSnapshot, token: str, elected: NodeSnapshot, term: int, votes: Sequence[str]) -> None:
    with context.database.unit_of_work() as uow:
        session = uow.session
        locked_cluster(session, job.cluster_id)
        training = leases.held(session, TrainingRow, job.training_id, token)
        for node in session.scalars(select(NodeRow).where(NodeRow.cluster_id == job.cluster_id)):
            node.acts_as_aggregator = node.id == elected.node_id
        training.former_aggregators = [*training.former_aggregators, training.aggregator_id]
        training.aggregator_id, training.term = elected.node_id, term
        events.emit(
            session,
            job.cluster_id,
            "training.aggregator_promoted",
            {
                "training_id": job.training_id,
                "from": job.aggregator_id,
                "to": elected.node_id,
                "term": term,
                "votes": list(votes),
                "completed_rounds": job.completed_rounds,
                "digest": job.digest,
            },
            training_id=job.training_id,
        )
        leases.release(training, 0)
        uow.enqueue("trainings.advance", training.id)

"""The aggregator asks the committee; a member that does not answer has no vote."""

import asyncio

from workers.agent.aggregator.consensus.committee import committee, votes_of
from workers.agent.aggregator.round_state import RoundState
from workers.agent.peers.client import PeerClient
from workers.agent.protocol.common import Peer
from workers.agent.protocol.consensus import ScoreResult, ScoreUpdates, Vote
from workers.agent.runtime.errors import AgentError
from workers.agent.runtime.logs import Log

_VOTE_WITHIN_S = 60.0


async def vote(found: RoundState, exchange: PeerClient, log: Log) -> list[Vote]:
    """Votes on all updates that are held."""
    request = found.request
    peers = {peer.node_id: peer for peer in request.workers if peer.node_id in found.held}
    candidates = {node_id: path.stem for node_id, (_, path) in found.held.items()}

    async def ask(voter: Peer) -> ScoreResult:
        question = ScoreUpdates(
            training_id=request.training_id,
            model=request.model,
            base_digest=request.base_digest,
            candidates=candidates,
            source=exchange.introduce(request.self_peer, voter),
            dataset=request.dataset,
        )
        return await exchange.ask(voter, "/scores", question, ScoreResult, within_s=_VOTE_WITHIN_S)

    voters = committee(list(peers), request.training_id, request.round)
    answers = await asyncio.gather(*(ask(peers[voter]) for voter in voters), return_exceptions=True)
    votes: list[Vote] = []
    for voter, answer in zip(voters, answers, strict=True):
        if isinstance(answer, ScoreResult):
            votes += votes_of(answer.model_copy(update={"node_id": voter}))
        elif isinstance(answer, AgentError):
            log("no_vote", node=voter, problem=answer.code)
        else:
            raise answer
    return votes

"""The aggregator asks the committee. A member that does not answer has no vote."""

import asyncio

from workers.agent.aggregator.consensus.committee import committee, votes_of
from workers.agent.aggregator.round_state import RoundState
from workers.agent.peers.client import PeerClient
from workers.agent.protocol.common import Peer
from workers.agent.protocol.consensus import ScoreResult, ScoreUpdates, Vote
from workers.agent.runtime.errors import AgentError
from workers.agent.runtime.logs import Log
from workers.agent.runtime.long_poll import validated_copy

_VOTE_WITHIN_S = 60.0


async def vote(round_state: RoundState, peer_client: PeerClient, log: Log) -> list[Vote]:
    """Return the committee's votes on all updates that are held."""
    request = round_state.request
    peers = {peer.node_id: peer for peer in request.workers if peer.node_id in round_state.held}
    candidates = {node_id: update.path.stem for node_id, update in round_state.held.items()}

    async def ask(voter: Peer) -> ScoreResult:
        question = ScoreUpdates(
            training_id=request.training_id,
            model=request.model,
            base_digest=request.base_digest,
            candidates=candidates,
            source=peer_client.introduce(request.self_peer, voter),
            dataset=request.dataset,
            data_format=request.data_format,
        )
        return await peer_client.ask(voter, "/scores", question, ScoreResult, within_s=_VOTE_WITHIN_S)

    voters = committee(list(peers), request.training_id, request.round)
    answers = await asyncio.gather(*(ask(peers[voter]) for voter in voters), return_exceptions=True)
    votes: list[Vote] = []
    for voter, answer in zip(voters, answers, strict=True):
        if isinstance(answer, ScoreResult):
            votes += votes_of(validated_copy(answer, node_id=voter))
        elif isinstance(answer, AgentError):
            log("no_vote", node=voter, problem=answer.code)
        else:
            raise answer
    return votes

"""A worker's vote on the next aggregator, when the last one is lost.

After Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm", USENIX ATC 2014.
A voter grants one vote in a term, so no two candidates win the same term. Terms never go back. The
vote is on disk before it is given. Only models that most workers hold are committed. So every
majority contains a worker that holds the last committed model.
"""

import asyncio
import threading
from pathlib import Path

from pydantic import ValidationError

from workers.agent.protocol.consensus import RequestVote, VoteResult
from workers.agent.storage.model_store import ModelStore

_VOTE = "vote.json"


class Voter:
    def __init__(self, node_id: str, store: ModelStore) -> None:
        self._node_id = node_id
        self._store = store
        self._lock = threading.Lock()

    async def vote(self, ballot: RequestVote) -> VoteResult:
        """Grant the vote to the first candidate of a new term that asks.

        This worker must hold the last committed model. A ballot that comes twice gets the same
        answer.
        """
        return await asyncio.to_thread(self._vote, ballot)

    def _vote(self, ballot: RequestVote) -> VoteResult:
        path = self._store.folder(ballot.training_id) / _VOTE
        holds = ballot.digest is None or self._store.find(ballot.digest) is not None
        with self._lock:
            last = _read(path)
            new = last is None or ballot.term > last.term
            granted = holds and (new or last == ballot)
            if granted and new:
                path.parent.mkdir(parents=True, exist_ok=True)
                part = path.with_suffix(".part")
                part.write_text(ballot.model_dump_json())
                part.replace(path)
            term = ballot.term if last is None else max(last.term, ballot.term if granted else 0)
        return VoteResult(node_id=self._node_id, term=term, granted=granted, holds=holds)


def _read(path: Path) -> RequestVote | None:
    try:
        return RequestVote.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None

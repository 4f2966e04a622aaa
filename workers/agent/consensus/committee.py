"""A committee of workers judges each update on data of its own, which neither the update's author nor the aggregator sees.

Every voter measures the accuracy of the round's base and of each candidate on its held-out samples. It accepts a candidate
that is not far below the median candidate: honest updates of one round resemble each other, whereas sign-flipped, noisy or
label-flipped ones fall out, as long as fewer than half are malicious. A candidate counts when most of its voters accept it.
"""

import math
import random
from collections.abc import Mapping, Sequence
from statistics import median

from workers.agent.protocol import Scores, Vote

COMMITTEE = 3
_MARGIN = 0.05
_SIGMAS = 2.0


def committee(workers: Sequence[str], training_id: str, number: int) -> list[str]:
    """Up to three workers, drawn anew each round so that nobody can count on sitting."""
    drawn = random.Random(f"{training_id}/{number}")  # noqa: S311 - a fair draw that every replay repeats, no secret
    return sorted(drawn.sample(sorted(workers), min(COMMITTEE, len(workers))))


def votes_of(scores: Scores) -> list[Vote]:
    """One voter's votes; nobody votes on its own update."""
    judged = {node_id: accuracy for node_id, accuracy in scores.candidates.items() if node_id != scores.node_id}
    if not judged:
        return []
    middle = median(scores.candidates.values())
    noise = math.sqrt(max(middle * (1 - middle), 0.01) / max(scores.samples, 1))
    floor = middle - _MARGIN - _SIGMAS * noise
    return [
        Vote(voter=scores.node_id, candidate=node_id, accept=accuracy >= floor, score=accuracy - scores.base)
        for node_id, accuracy in sorted(judged.items())
    ]


def rejected(candidates: Sequence[str], votes: Sequence[Vote]) -> Mapping[str, str]:
    """The candidates that more than half of their voters refuse, and why. Without a vote a candidate counts."""
    result: dict[str, str] = {}
    for candidate in candidates:
        cast = [vote for vote in votes if vote.candidate == candidate]
        against = sum(not vote.accept for vote in cast)
        if cast and against * 2 > len(cast):
            result[candidate] = f"{against} of {len(cast)} committee members found it worse than the others' updates"
    return result

"""A committee of workers judges each update on data of its own, which neither the update's author nor the aggregator sees.

Every voter measures the round's base and each candidate on its held-out samples. Honest updates of one round resemble each
other; as long as fewer than half are malicious, the median candidate is honest, and a voter refuses two kinds beside it:

- worse: far below the median in accuracy without a clear gain in loss over the base (a first round may lift off late), or
  clearly losing in loss to both the base and the median. Sign-flipped, noisy and label-flipped updates fall out here.
- learned nothing: it answers as the base does where the median does not (the base itself, or with a little noise), or it gains
  nothing in loss where the median clearly gains.

A candidate counts when most of its voters accept it. A cheat that is as good as the others without their work cannot be told
from them by this, and workers whose data is of another kind than most others' may be refused although they are honest.
"""

import math
import random
from collections.abc import Mapping, Sequence
from statistics import median

from workers.agent.protocol.consensus import ScoreResult, UpdateEffect, Vote

COMMITTEE = 3
_MARGIN = 0.05
_SIGMAS = 2.0
# An update that changes a voter's answers by less than this share of what the median update changes.
_STIRRED = 0.05
# The median update's gain is clear from so many standard errors; less than this share of it is no gain.
_CLEAR = 3.0
_GAINED = 0.1
WORSE = "worse than the others' updates"
IDLE = "to have learned nothing"


def committee(workers: Sequence[str], training_id: str, number: int) -> list[str]:
    """Up to three workers, drawn anew each round so that nobody can count on sitting."""
    drawn = random.Random(f"{training_id}/{number}")  # noqa: S311 - a fair draw that every replay repeats, no secret
    return sorted(drawn.sample(sorted(workers), min(COMMITTEE, len(workers))))


def votes_of(scores: ScoreResult) -> list[Vote]:
    """One voter's votes; nobody votes on its own update."""
    judged = {node_id: accuracy for node_id, accuracy in scores.candidates.items() if node_id != scores.node_id}
    if not judged:
        return []
    middle = median(scores.candidates.values())
    noise = math.sqrt(max(middle * (1 - middle), 0.01) / max(scores.samples, 1))
    floor = middle - _MARGIN - _SIGMAS * noise
    idle = _idle(scores.effects)
    votes = []
    for node_id, accuracy in sorted(judged.items()):
        low = accuracy < floor and not _clearly(scores.effects.get(node_id), 1)
        worse = low or (node_id in idle and _clearly(scores.effects.get(node_id), -1))
        reason = WORSE if worse else IDLE if node_id in idle else None
        score = accuracy - scores.base
        votes.append(Vote(voter=scores.node_id, candidate=node_id, accept=reason is None, score=score, reason=reason))
    return votes


def _clearly(effect: UpdateEffect | None, sign: int) -> bool:
    """Whether an update gains (1) or loses (-1) beyond doubt."""
    return effect is not None and sign * effect.gain > _CLEAR * effect.error


def _idle(effects: Mapping[str, UpdateEffect]) -> set[str]:
    """The candidates that did not learn where the median candidate did; nobody, where there is nobody to compare with."""
    if len(effects) < 2:
        return set()
    stirred = median(effect.change for effect in effects.values())
    found = {node_id for node_id, effect in effects.items() if effect.change < _STIRRED * stirred}
    usual = sorted(effects.values(), key=lambda effect: effect.gain)[(len(effects) - 1) // 2]
    for node_id, effect in effects.items():
        behind = usual.gain - effect.gain > _CLEAR * math.hypot(usual.error, effect.error)
        nothing = _clearly(usual, 1) and effect.gain < _GAINED * usual.gain
        if behind and (nothing or _clearly(effect, -1)):
            found.add(node_id)
    return found


def rejected(candidates: Sequence[str], votes: Sequence[Vote]) -> Mapping[str, str]:
    """The candidates that more than half of their voters refuse, and why. Without a vote a candidate counts."""
    result: dict[str, str] = {}
    for candidate in candidates:
        cast = [vote for vote in votes if vote.candidate == candidate]
        against = [vote for vote in cast if not vote.accept]
        if len(against) * 2 > len(cast):
            why = " or ".join(sorted({vote.reason or WORSE for vote in against}))
            result[candidate] = f"{len(against)} of {len(cast)} committee members found it {why}"
    return result

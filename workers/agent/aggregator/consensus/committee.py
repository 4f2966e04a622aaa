"""A committee of workers judges each update on data that its author and the aggregator never see.

Every voter measures the round's base and each candidate on its own held-out samples. Honest
updates of one round resemble each other. While fewer than half are malicious, the median candidate
is honest. A voter refuses two kinds of candidates:

- Worse: its accuracy is far below the median, without a clear gain in loss over the base. That
  gain is needed because a first round may start to learn late. Or the candidate clearly loses in
  loss to both the base and the median. This finds updates that are sign-flipped, noisy or
  label-flipped.
- Learned nothing: it answers as the base does where the median does not. It is the base itself, or
  the base with a little noise. Or it gains nothing in loss where the median clearly gains.

A candidate counts when most of its voters accept it. Two limits remain. The committee does not
find an attacker whose update is as good as the others. Honest workers may be refused if their data
differs from most others'.
"""

import math
import random
from collections.abc import Mapping, Sequence
from statistics import median

from workers.agent.protocol.consensus import ScoreResult, UpdateEffect, Vote

COMMITTEE = 3
_MARGIN = 0.05
_SIGMAS = 2.0
# The median update changes a voter's answers by some amount. An update learned nothing if it
# changes them by less than this share of that amount.
_CHANGED = 0.05
# A gain is clear from this number of standard errors on.
_CLEAR = 3.0
# Less than this share of the median update's gain is no gain.
_GAINED = 0.1
WORSE = "worse than the others' updates"
IDLE = "to have learned nothing"


def committee(workers: Sequence[str], training_id: str, number: int) -> list[str]:
    """Draw up to three workers, others each round, so that no worker can count on being drawn."""
    generator = random.Random(f"{training_id}/{number}")  # noqa: S311 - a fair draw that every replay repeats, no secret
    return sorted(generator.sample(sorted(workers), min(COMMITTEE, len(workers))))


def votes_of(scores: ScoreResult) -> list[Vote]:
    """Return one voter's votes. No worker votes on its own update."""
    candidates = {node_id: accuracy for node_id, accuracy in scores.candidates.items() if node_id != scores.node_id}
    if not candidates:
        return []
    median_accuracy = median(scores.candidates.values())
    noise = math.sqrt(max(median_accuracy * (1 - median_accuracy), 0.01) / max(scores.samples, 1))
    floor = median_accuracy - _MARGIN - _SIGMAS * noise
    idle = _idle(scores.effects)
    votes = []
    for node_id, accuracy in sorted(candidates.items()):
        low = accuracy < floor and not _clearly(scores.effects.get(node_id), 1)
        worse = low or (node_id in idle and _clearly(scores.effects.get(node_id), -1))
        reason = WORSE if worse else IDLE if node_id in idle else None
        score = accuracy - scores.base
        votes.append(Vote(voter=scores.node_id, candidate=node_id, accept=reason is None, score=score, reason=reason))
    return votes


def _clearly(effect: UpdateEffect | None, sign: int) -> bool:
    """Return whether an update clearly gains (`sign` 1) or clearly loses (-1)."""
    return effect is not None and sign * effect.gain > _CLEAR * effect.error


def _idle(effects: Mapping[str, UpdateEffect]) -> set[str]:
    """Return the candidates that did not learn where the median candidate did.

    A single candidate cannot be compared, so it is never idle.
    """
    if len(effects) < 2:
        return set()
    median_change = median(effect.change for effect in effects.values())
    idle = {node_id for node_id, effect in effects.items() if effect.change < _CHANGED * median_change}
    usual = sorted(effects.values(), key=lambda effect: effect.gain)[(len(effects) - 1) // 2]
    for node_id, effect in effects.items():
        behind = usual.gain - effect.gain > _CLEAR * math.hypot(usual.error, effect.error)
        no_gain = _clearly(usual, 1) and effect.gain < _GAINED * usual.gain
        if behind and (no_gain or _clearly(effect, -1)):
            idle.add(node_id)
    return idle


def rejected(candidates: Sequence[str], votes: Sequence[Vote]) -> Mapping[str, str]:
    """Return the candidates that more than half of their voters refuse, each with the reason.

    A candidate without a vote counts.
    """
    reasons: dict[str, str] = {}
    for candidate in candidates:
        cast = [vote for vote in votes if vote.candidate == candidate]
        against = [vote for vote in cast if not vote.accept]
        if len(against) * 2 > len(cast):
            reason = " or ".join(sorted({vote.reason or WORSE for vote in against}))
            reasons[candidate] = f"{len(against)} of {len(cast)} committee members found it {reason}"
    return reasons

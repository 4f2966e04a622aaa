"""Red flags: find problems of a training in the metrics of its rounds, and suggest what to do."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Annotated, Final

from api.domain.records import Record
from api.domain.words import Words

# A modified z-score above this is an outlier.
# Source: Iglewicz and Hoaglin, "How to Detect and Handle Outliers", 1993.
_OUTLIER: Final = 3.5
# Scales the median absolute deviation to the standard deviation of a normal distribution.
_MAD_OF_NORMAL: Final = 0.6745
_FEWEST_WORKERS: Final = 3
# Losses that agree closely have a tiny deviation. A loss nearer than this share of the median is
# no outlier.
_FAR: Final = 0.2
_RISES: Final = 3
_RISEN: Final = 1.2
# A mean training loss above so many times that of a guess is no beginner's loss.
_EXPLODED: Final = 2.0
STAGNANT_ROUNDS: Final = 5
_REPEATED: Final = 2
COMES_BACK: Final = ("returning", "provisioning")
MISSING_CLASSES: Final = "missing_classes"
SIMILAR_LABELS: Final = "similar_labels"
UNTRAINED_CLASSES: Final = "untrained_classes"
DATA_FLAGS: Final = frozenset({MISSING_CLASSES, SIMILAR_LABELS, UNTRAINED_CLASSES})
"""Flags that the check of the shards raises. They stay for the whole training."""
ROUND_FAILED: Final = "round_failed"
CANNOT_JOIN: Final = "worker_cannot_join"
OUTSIDE: Final = "worker_outside"
JOIN_FLAGS: Final = frozenset({CANNOT_JOIN, OUTSIDE})
"""Flags of running workers that take no part. They are checked before each round."""
RED_FLAGS: Final = (
    "divergent_worker", "loss_diverges", "stagnation", "node_lost", "node_failed", "update_not_finite", "updates_rejected",
    MISSING_CLASSES, SIMILAR_LABELS, UNTRAINED_CLASSES, ROUND_FAILED, CANNOT_JOIN, OUTSIDE,
)  # fmt: skip
RedFlagCode = Annotated[
    str,
    Words(
        "RedFlagCode",
        "divergent_worker: in two consecutive rounds, one worker's loss is far from the others. Far: modified z-score above"
        " 3.5 by the median absolute deviation, and a fifth of the median away. loss_diverges: the global loss rose in three"
        " consecutive rounds, to 1.2 times its lowest. stagnation: five rounds without a better global loss, beyond noise."
        " node_lost, node_failed: a node does not take part. update_not_finite: an update has NaN or infinity."
        " updates_rejected: two consecutive updates of a node were rejected. missing_classes, similar_labels and"
        " untrained_classes: the labels of the shards do not fit together. round_failed: a round had to be repeated."
        " worker_cannot_join, worker_outside: a running worker takes no part.",
        RED_FLAGS,
    ),
]
WINDOW: Final = 10
"""The number of newest rounds whose worker figures are checked."""


@dataclass(frozen=True, slots=True)
class ObservedWorker:
    """One worker in one round: its state, the reason of the state, and its training loss if any."""

    state: str
    loss: float | None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class RoundFacts:
    """One round. `loss` is the global training loss, None until the round is done."""

    number: int
    loss: float | None
    workers: Mapping[str, ObservedWorker]


@dataclass(frozen=True, slots=True)
class Flag:
    """One red flag. `node_id` is None for a flag of the whole training.

    `round` is the newest round that shows the problem, None before the first round.
    """

    code: str
    message: str
    suggestion: str
    node_id: str | None
    round: int | None


class RaisedFlag(Record):
    """A flag as its training stores it. `since` is the time at which it was raised, in ISO 8601."""

    code: str
    message: str
    suggestion: str
    node_id: str | None
    round: int | None
    since: str


def find(
    losses: Sequence[tuple[int, float | None]],
    rounds: Sequence[RoundFacts],
    away: Mapping[str, str],
    learning_rate: float,
    classes: int = 0,
) -> list[Flag]:
    """Return all current flags, sorted by code and node.

    `losses` are (number, global loss) of the completed rounds, the oldest first. `rounds` are the
    newest rounds with their workers, including the current round. `away` maps each node that does
    not run and was not removed to its status. `classes` is the number of classes, 0 if not known.
    """
    flags = [*_lost(rounds, away, learning_rate), *_refused(rounds), *_divergent(rounds)]
    flags += [flag for flag in (_rising(losses, learning_rate, classes), _stagnant(losses)) if flag is not None]
    return sorted(flags, key=lambda flag: (flag.code, flag.node_id or ""))


def outliers(losses: Mapping[str, float]) -> dict[str, float]:
    """Return the losses that are far from the others, by node.

    A loss x is far when two conditions hold. The modified z-score 0.6745 |x - median| / MAD is
    above 3.5. And |x - median| is above a fifth of the median.

    MAD is the median absolute deviation. With it, one bad worker cannot hide itself. Fewer than
    three workers have no majority, so none of them is far.
    """
    if len(losses) < _FEWEST_WORKERS:
        return {}
    middle = median(losses.values())
    deviation = median(abs(loss - middle) for loss in losses.values())
    return {
        node_id: loss
        for node_id, loss in losses.items()
        if abs(loss - middle) > _FAR * abs(middle) and _MAD_OF_NORMAL * abs(loss - middle) > _OUTLIER * deviation
    }


def _divergent(rounds: Sequence[RoundFacts]) -> list[Flag]:
    """Flag workers whose loss was far off, on the same side, in the last two completed rounds."""
    done = [facts for facts in rounds if facts.loss is not None][-_REPEATED:]
    if len(done) < _REPEATED:
        return []
    figures = [_losses(facts) for facts in done]
    far = [outliers(losses) for losses in figures]
    flags = []
    for node_id, loss in far[-1].items():
        middle = median(figures[-1].values())
        above = loss > middle
        sooner = far[0].get(node_id)
        if sooner is None or (sooner > median(figures[0].values())) != above:
            continue
        if above:
            suggestion = f"Check the data of {node_id}: its labels, language and size. If it is right, try strategy fedprox."
        else:
            suggestion = f"Check whether the shard of {node_id} is tiny, repeats a few texts, or has only one label."
        side = "above" if above else "below"
        message = f"The loss of {node_id} is {loss:.4g}, far {side} the workers' median of {middle:.4g}."
        flags.append(Flag("divergent_worker", message, suggestion, node_id, done[-1].number))
    return flags


def _losses(facts: RoundFacts) -> dict[str, float]:
    return {
        node_id: worker.loss
        for node_id, worker in facts.workers.items()
        if worker.loss is not None and math.isfinite(worker.loss)
    }


def _rising(losses: Sequence[tuple[int, float | None]], learning_rate: float, classes: int) -> Flag | None:
    """Flag a diverging global loss.

    It rose in each of the last three rounds, to a fifth above its lowest. Or it is not finite, or
    more than twice the loss of a guess, ln(classes).
    """
    known = [(number, loss) for number, loss in losses if loss is not None]
    if not known:
        return None
    number, last = known[-1]
    values = [loss for _, loss in known]
    lowest = min((value for value in values if math.isfinite(value)), default=last)
    rises = len(values) > _RISES and all(later > sooner for sooner, later in pairwise(values[-_RISES - 1 :]))
    guess = math.log(classes) if classes > 1 else math.inf
    exploded = not math.isfinite(last) or last > _EXPLODED * guess
    if not exploded and not (rises and last >= _RISEN * lowest):
        return None
    message = f"The global loss has risen to {last:.4g}; its lowest was {lowest:.4g}."
    if exploded:
        message = f"The global loss is {last:.4g}; a guess has {guess:.4g}."
    suggestion = f"Lower the learning rate: it is {learning_rate:g}, try {learning_rate / (10 if exploded else 3):.2g}."
    return Flag("loss_diverges", message, suggestion, None, number)


def _stagnant(losses: Sequence[tuple[int, float | None]]) -> Flag | None:
    """Flag five rounds in which the global loss did not become better than before, beyond noise.

    Noise is the median of the absolute changes between those rounds.
    """
    known = [(number, loss) for number, loss in losses if loss is not None and math.isfinite(loss)]
    if len(known) <= STAGNANT_ROUNDS:
        return None
    values = [loss for _, loss in known]
    before, recent = values[:-STAGNANT_ROUNDS], values[-STAGNANT_ROUNDS:]
    noise = median(abs(later - sooner) for sooner, later in pairwise(recent))
    if min(before) - min(recent) > noise:
        return None
    message = f"No global loss clearly below {min(before):.4g} in the last {STAGNANT_ROUNDS} rounds."
    suggestion = "If it is good enough, stop here (patience does it by itself); else try another learning rate or more data."
    return Flag("stagnation", message, suggestion, None, known[-1][0])


def _remedy(node_id: str, reason: str, learning_rate: float) -> str:
    """Return what helps against the failure of a worker's training."""
    if "(diverged)" in reason:
        return f"Lower the learning rate: it is {learning_rate:g}, try {learning_rate / 10:.2g}."
    if "memory" in reason:
        return f"A smaller batch_size or max_length needs less memory. So does a node {node_id} with more memory."
    return f"Check the data and the logs of node {node_id}."


def _lost(rounds: Sequence[RoundFacts], away: Mapping[str, str], learning_rate: float) -> list[Flag]:
    number = rounds[-1].number if rounds else None
    flags = []
    for node_id, status in away.items():
        message = f"{node_id} is {status}; the rounds continue without it."
        suggestion = f"Redeploy node {node_id} (POST /v1/nodes/{node_id}/redeploy) and upload its shard again."
        if status in COMES_BACK:
            message = f"{node_id} does not answer."
            suggestion = "Do nothing yet: the control plane is restarting it."
        flags.append(Flag("node_lost", message, suggestion, node_id, number))
    for node_id, worker in (rounds[-1].workers if rounds else {}).items():
        if worker.state == "failed" and node_id not in away:
            message = f"{node_id} could not train: {worker.reason or 'no reason given'}."
            suggestion = _remedy(node_id, worker.reason or "", learning_rate)
            flags.append(Flag("node_failed", message, suggestion, node_id, number))
    return flags


def _refused(rounds: Sequence[RoundFacts]) -> list[Flag]:
    """Flag nodes whose newest updates were all refused.

    An update with NaN or infinity is flagged at once. Others are flagged from the second one on.
    """
    flags = []
    for node_id in {node_id for facts in rounds for node_id in facts.workers}:
        results = [
            (facts.number, facts.workers[node_id])
            for facts in rounds
            if node_id in facts.workers and facts.workers[node_id].state not in ("training", "not_sampled")
        ]
        count = 0
        for _, worker in reversed(results):
            if worker.state != "rejected":
                break
            count += 1
        if not count:
            continue
        number, last = results[-1]
        reason = last.reason or "no reason given"
        if "NaN" in reason or "infinity" in reason:
            suggestion = (
                f"Lower the learning rate, or leave mixed_precision out; if it is this node alone, redeploy node {node_id}."
            )
            flags.append(
                Flag("update_not_finite", f"The update of {node_id} was refused: {reason}.", suggestion, node_id, number)
            )
        elif count >= _REPEATED:
            message = f"The last {count} updates of {node_id} were refused: {reason}."
            suggestion = (
                f"Check the data of {node_id}; if you do not trust the node, remove it or use a robust strategy (median)."
            )
            flags.append(Flag("updates_rejected", message, suggestion, node_id, number))
    return flags

"""Which training of a search is a loser, and which is the best, judged by one metric over the epochs."""

import math
from collections.abc import Sequence
from statistics import fmean, median
from typing import Final, Literal, get_args

from api.domain.stopping import TrainingStop

Metric = Literal["validation_accuracy", "validation_loss", "global_accuracy", "global_loss"]
METRICS: Final[tuple[Metric, ...]] = get_args(Metric)
MetricCurve = Sequence[tuple[int, float | None]]
"""The epochs trained after each completed round, and the metric measured then (None where it was not)."""


def better(metric: str, one: float, other: float) -> bool:
    """Whether `one` is strictly the better value: the higher accuracy, the lower loss."""
    return one > other if metric.endswith("accuracy") else one < other


def last_value(curve: MetricCurve) -> float | None:
    """The metric of the model that is there: that of the last completed round; None where it was not measured."""
    value = curve[-1][1] if curve else None
    return value if value is not None and math.isfinite(value) else None


def best(metric: str, values: Sequence[float | None]) -> int | None:
    """Position of the best value, the first of equals; None where nothing was measured."""
    chosen: int | None = None
    for position, value in enumerate(values):
        if value is None:
            continue
        held = None if chosen is None else values[chosen]
        if held is None or better(metric, value, held):
            chosen = position
    return chosen


def loser(
    metric: str, own: MetricCurve, others: Sequence[MetricCurve], *, grace_epochs: int, grace_trainings: int
) -> TrainingStop | None:
    """Why a training is not worth going on with; None when it is.

    The median stopping rule of Golovin et al., "Google Vizier: A Service for Black-Box Optimization", KDD 2017, section 3.2.2:
    stop at epoch s when the best value until s is strictly worse than the median of the other trainings' averages over their
    values until s. Compared are those others that have trained s epochs, whether they went on to the end or not. Nothing is
    stopped before `grace_epochs`, nor while there are fewer than `grace_trainings` to compare with.
    """
    reached = own[-1][0] if own else 0
    mine = _measured(own, reached)
    if not mine or reached < grace_epochs:
        return None
    averages = [
        fmean(values) for curve in others if curve and curve[-1][0] >= reached and (values := _measured(curve, reached))
    ]
    if len(averages) < grace_trainings:
        return None
    top = max(mine) if metric.endswith("accuracy") else min(mine)
    middle = median(averages)
    if not better(metric, middle, top):
        return None
    return TrainingStop(
        code="early_stopped",
        detail=f"Its best {metric} until epoch {reached} is {top:.4g}; "
        f"the median of {len(averages)} earlier trainings' averages until then is {middle:.4g}.",
    )


def _measured(curve: MetricCurve, until: int) -> list[float]:
    return [value for epoch, value in curve if epoch <= until and value is not None and math.isfinite(value)]

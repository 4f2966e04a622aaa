"""Compare the trainings of a search by one metric: find the best, and stop bad ones early."""

import math
from collections.abc import Sequence
from statistics import fmean, median
from typing import Annotated, Final, Literal

from api.domain.stopping import TrainingStop
from api.domain.words import Words, words_of

Metric = Annotated[
    Literal["validation_accuracy", "validation_loss", "global_accuracy", "global_loss"],
    Words("SearchMetric", "The figure that compares the trainings of a search."),
]
METRICS: Final[tuple[Metric, ...]] = words_of(Metric)
MetricCurve = Sequence[tuple[int, float | None]]
"""For each completed round: the epochs trained so far, and the metric (None: not measured)."""


def better(metric: str, value: float, other: float) -> bool:
    """Return whether `value` is strictly better: a higher accuracy, or a lower loss."""
    return value > other if metric.endswith("accuracy") else value < other


def last_value(curve: MetricCurve) -> float | None:
    """Return the metric of the last completed round, or None if it was not measured."""
    value = curve[-1][1] if curve else None
    return value if value is not None and math.isfinite(value) else None


def best(metric: str, values: Sequence[float | None]) -> int | None:
    """Return the position of the best value, the first of equals.

    Return None if nothing was measured.
    """
    best_position: int | None = None
    for position, value in enumerate(values):
        if value is None:
            continue
        best_value = None if best_position is None else values[best_position]
        if best_value is None or better(metric, value, best_value):
            best_position = position
    return best_position


def early_stop_reason(
    metric: str, curve: MetricCurve, others: Sequence[MetricCurve], *, grace_epochs: int, grace_trainings: int
) -> TrainingStop | None:
    """Return why to stop the training of `curve` early, or None to let it continue.

    This is the median stopping rule. A training stops at epoch s when its best value until s is
    strictly worse than a median. It is the median of the other trainings' averages until s.
    The rule counts every other training that reached epoch s, even if it stopped later.

    No training stops before `grace_epochs`, or with fewer than `grace_trainings` others.

    Source: Golovin et al., "Google Vizier: A Service for Black-Box Optimization", KDD 2017,
    section 3.2.2.
    """
    reached = curve[-1][0] if curve else 0
    values = _measured(curve, reached)
    if not values or reached < grace_epochs:
        return None
    averages = [
        fmean(other_values)
        for other in others
        if other and other[-1][0] >= reached and (other_values := _measured(other, reached))
    ]
    if len(averages) < grace_trainings:
        return None
    best_value = max(values) if metric.endswith("accuracy") else min(values)
    middle = median(averages)
    if not better(metric, middle, best_value):
        return None
    return TrainingStop(
        code="early_stopped",
        detail=f"Its best {metric} until epoch {reached} is {best_value:.4g}; "
        f"the median of {len(averages)} earlier trainings' averages until then is {middle:.4g}.",
    )


def _measured(curve: MetricCurve, until: int) -> list[float]:
    return [value for epoch, value in curve if epoch <= until and value is not None and math.isfinite(value)]

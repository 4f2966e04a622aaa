"""When a training ends by itself before its last epoch.

The decision falls between two rounds. The first round always runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Final

from api.domain.records import Record
from api.domain.words import Words

STOP_CODES: Final = (
    "target_reached", "no_progress", "budget_spent", "time_over", "early_stopped", "search_stopped", "quota_exceeded",
)  # fmt: skip
StopCode = Annotated[
    str,
    Words(
        "StopCode",
        "Why a training or a search ended early. Only a search's training has early_stopped or search_stopped."
        " Only a search has quota_exceeded.",
        STOP_CODES,
    ),
]


@dataclass(frozen=True, slots=True)
class StoppingRules:
    """The limits of a training. None switches a rule off.

    `target_accuracy` (0 to 1) is a validation accuracy. `patience` counts rounds. `max_minutes`
    limits the elapsed time.
    """

    target_accuracy: float | None = None
    patience: int | None = None
    budget_usd: float | None = None
    max_minutes: float | None = None


@dataclass(frozen=True, slots=True)
class Spent:
    """What a training has used so far, and what each further second costs."""

    seconds: float
    usd: Decimal
    usd_per_second: Decimal


class TrainingStop(Record):
    """Why a training or a search ended early."""

    code: str
    detail: str


def stop_reason(
    rules: StoppingRules, accuracies: Sequence[float | None], spent: Spent, last_round_seconds: float | None
) -> TrainingStop | None:
    """Return why no further round runs, or None if one runs.

    `accuracies` are the validation accuracies of the completed rounds. The last round is the
    estimate for the next one. The training ends before a round that would exceed its time or
    its budget.
    """
    known = [accuracy for accuracy in accuracies if accuracy is not None]
    if rules.target_accuracy is not None and known and known[-1] >= rules.target_accuracy:
        return TrainingStop(
            code="target_reached",
            detail=f"The validation accuracy is {known[-1]:.4g}. The target was {rules.target_accuracy:g}.",
        )
    if rules.patience is not None and len(known) > rules.patience:
        best = max(known[: -rules.patience])
        if max(known[-rules.patience :]) <= best:
            return TrainingStop(
                code="no_progress", detail=f"No validation accuracy above {best:.4g} in the last {_rounds(rules.patience)}."
            )
    next_seconds = last_round_seconds or 0.0
    next_usd = spent.usd_per_second * Decimal(str(next_seconds))
    if rules.budget_usd is not None and spent.usd + next_usd > Decimal(str(rules.budget_usd)):
        return TrainingStop(
            code="budget_spent",
            detail=f"{spent.usd:.6f} USD are spent and another round costs about {next_usd:.6f}. "
            f"The budget is {rules.budget_usd:g}.",
        )
    if rules.max_minutes is not None and spent.seconds + next_seconds > rules.max_minutes * 60:
        return TrainingStop(
            code="time_over",
            detail=f"{spent.seconds:.1f} s have passed and another round takes about {next_seconds:.1f} s;"
            f" {rules.max_minutes:g} minutes are allowed.",
        )
    return None


def _rounds(count: int) -> str:
    return "round" if count == 1 else f"{count} rounds"

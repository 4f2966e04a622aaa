"""The trainings of a search: all combinations of its space, or a random part of them."""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Annotated, Any, Final, Literal

from api.domain import exclusions
from api.domain.consensus import Consensus
from api.domain.early_stopping import Metric
from api.domain.errors import DomainError, FieldError, InvalidError
from api.domain.records import Record
from api.domain.training_spec import TrainingSpec
from api.domain.words import Words

Method = Annotated[Literal["grid", "random"], Words("SearchMethod", "How a search goes through its space.")]
EarlyStopping = Annotated[Literal["none", "median"], Words("EarlyStopping", "How a search ends bad trainings early.")]
Scale = Annotated[Literal["linear", "log"], Words("SearchScale", "log: each power of ten is equally likely.")]
Value = bool | int | float | str | None
Options = dict[str, Value]

MOST_TRAININGS: Final = 100
_DRAWS_PER_TRAINING: Final = 100


@dataclass(frozen=True, slots=True)
class Range:
    """The numbers from `low` to `high`, both included.

    `integers_only` leaves out all other numbers. On a `log` scale each power of ten is equally
    likely.
    """

    low: float
    high: float
    scale: Scale
    integers_only: bool


Space = Mapping[str, Sequence[Value] | Range]


@dataclass(frozen=True, slots=True)
class Trial:
    """One training of a search: its combination from the space, and its whole configuration."""

    options: Options
    training: TrainingSpec


class SearchPlan(Record):
    """How a search goes through its space. `space` is as the client wrote it.

    `budget_usd` and `max_minutes` limit the whole search. None means no limit.
    """

    method: Method
    space: dict[str, Any]
    metric: Metric
    early_stopping: EarlyStopping
    grace_epochs: int
    grace_trainings: int
    seed: int
    budget_usd: float | None
    max_minutes: float | None


class PlannedTrial(Record):
    """One training of a search, as the search's row stores it.

    `config` holds those fields of its `TrainingSpec` that differ between the trials.
    """

    options: Options
    config: dict[str, Any]


@dataclass(frozen=True, slots=True)
class SearchSpec:
    """A search that a client asked for: its plan, and its trainings in their order."""

    plan: SearchPlan
    trials: tuple[Trial, ...]

    def check_workers(self, workers: int, consensus: Consensus = "none") -> None:
        """Check that a cluster with `workers` workers can run each of the trainings.

        Raises:
            InvalidError: with the code of the first training that cannot run. Its pointers lead
                into the space.
        """
        for trial in self.trials:
            try:
                trial.training.check_mode(consensus)
                exclusions.check(trial.training, consensus)
                trial.training.check_workers(workers, consensus)
            except InvalidError as error:
                raise error_of_space(error, trial.options) from None


def size(space: Space) -> int | None:
    """Return the number of combinations, or None if a range makes them infinite."""
    lengths = [len(values) for values in space.values() if not isinstance(values, Range)]
    return math.prod(lengths) if len(lengths) == len(space) else None


def grid(space: Space) -> list[Options]:
    """Return all combinations of a space without ranges. The last option changes fastest."""
    lists = [values for values in space.values() if not isinstance(values, Range)]
    return [dict(zip(space, values, strict=True)) for values in product(*lists)]


def draw(space: Space, count: int, seed: int) -> list[Options]:
    """Draw up to `count` different combinations, uniformly.

    The same seed draws the same combinations. A space with at most `count` combinations is
    returned whole.

    Source: Bergstra and Bengio, "Random Search for Hyper-Parameter Optimization", JMLR 13, 2012.
    """
    total = size(space)
    if total is not None and total <= count:
        return grid(space)
    generator = random.Random(seed)  # noqa: S311
    combinations: list[Options] = []
    for _ in range(count * _DRAWS_PER_TRAINING):
        options = {name: _draw_value(generator, values) for name, values in space.items()}
        if options not in combinations:
            combinations.append(options)
        if len(combinations) == count:
            break
    return combinations


def _draw_value(generator: random.Random, values: Sequence[Value] | Range) -> Value:
    if not isinstance(values, Range):
        return generator.choice(values)
    if values.scale == "log":
        number = math.exp(generator.uniform(math.log(values.low), math.log(values.high)))
    elif values.integers_only:
        return generator.randint(int(values.low), int(values.high))
    else:
        number = generator.uniform(values.low, values.high)
    # Six digits tell two trainings apart, and a person can type them again.
    rounded = round(number) if values.integers_only else float(f"{number:.6g}")
    return min(max(rounded, values.low), values.high)


def error_of_space(error: DomainError, options: Options) -> InvalidError:
    """Return the error of one combination as an error of the space.

    The pointers of options in the combination lead to the space. Each message names the
    combination.
    """
    combination = ", ".join(f"{name} {value!r}" for name, value in options.items())
    fields = tuple(
        FieldError(
            f"/space{field.pointer}" if field.pointer.lstrip("/") in options else field.pointer,
            f"{field.message} (with {combination})",
        )
        for field in error.errors
    )
    return InvalidError(error.code, fields[0].message if fields else error.detail, errors=fields)

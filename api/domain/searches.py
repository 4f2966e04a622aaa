"""What a search trains: the combinations of its space, all of them or a part drawn by a seed."""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Final, Literal

from api.domain import exclusions
from api.domain.consensus import Consensus
from api.domain.early_stopping import Metric
from api.domain.errors import DomainError, FieldError, InvalidError
from api.domain.records import Record
from api.domain.training_spec import TrainingSpec

Method = Literal["grid", "random"]
EarlyStopping = Literal["none", "median"]
Scale = Literal["linear", "log"]
Value = bool | int | float | str | None
Options = dict[str, Value]

MOST_TRAININGS: Final = 100
_DRAWS_PER_TRAINING: Final = 100


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers from `low` to `high`, both included; `whole` ones only. On a `log` scale each power of ten is as likely."""

    low: float
    high: float
    scale: Scale
    whole: bool


Space = Mapping[str, Sequence[Value] | Range]


@dataclass(frozen=True, slots=True)
class Trial:
    """One training of a search: the options that were taken from the space, and all that it is trained with."""

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
    """One training of a search as its row keeps it.

    `config` holds the fields of its `TrainingSpec` that differ between the trials.
    """

    options: Options
    config: dict[str, Any]


@dataclass(frozen=True, slots=True)
class SearchSpec:
    """A search that a client asked for: its plan, and its trainings in their order."""

    plan: SearchPlan
    trials: tuple[Trial, ...]

    def check_workers(self, workers: int, consensus: Consensus = "none") -> None:
        """InvalidError where one of its trainings could not be made with so many workers."""
        for trial in self.trials:
            try:
                trial.training.check_mode(consensus)
                exclusions.check(trial.training, consensus)
                trial.training.check_workers(workers, consensus)
            except InvalidError as error:
                raise placed(error, trial.options) from None


def size(space: Space) -> int | None:
    """How many combinations there are; None where a range makes them countless."""
    lengths = [len(values) for values in space.values() if not isinstance(values, Range)]
    return math.prod(lengths) if len(lengths) == len(space) else None


def grid(space: Space) -> list[Options]:
    """All combinations of a space without ranges; the last option changes fastest."""
    lists = [values for values in space.values() if not isinstance(values, Range)]
    return [dict(zip(space, values, strict=True)) for values in product(*lists)]


def draw(space: Space, count: int, seed: int) -> list[Options]:
    """Up to `count` different combinations, drawn uniformly (Bergstra and Bengio, "Random Search for Hyper-Parameter
    Optimization", JMLR 13, 2012). The same seed draws the same; a space that holds no more than `count` is taken whole."""
    total = size(space)
    if total is not None and total <= count:
        return grid(space)
    generator = random.Random(seed)  # noqa: S311
    found: list[Options] = []
    for _ in range(count * _DRAWS_PER_TRAINING):
        options = {name: _drawn(generator, values) for name, values in space.items()}
        if options not in found:
            found.append(options)
        if len(found) == count:
            break
    return found


def _drawn(generator: random.Random, values: Sequence[Value] | Range) -> Value:
    if not isinstance(values, Range):
        return generator.choice(values)
    if values.scale == "log":
        number = math.exp(generator.uniform(math.log(values.low), math.log(values.high)))
    elif values.whole:
        return generator.randint(int(values.low), int(values.high))
    else:
        number = generator.uniform(values.low, values.high)
    # Six digits are enough to tell two trainings apart, and can be read and typed again.
    rounded = round(number) if values.whole else float(f"{number:.6g}")
    return min(max(rounded, values.low), values.high)


def placed(error: DomainError, options: Options) -> InvalidError:
    """What is wrong with one combination, as what is wrong with the space."""
    words = ", ".join(f"{name} {value!r}" for name, value in options.items())
    fields = tuple(
        FieldError(
            f"/space{field.pointer}" if field.pointer.lstrip("/") in options else field.pointer,
            f"{field.message} (with {words})",
        )
        for field in error.errors
    )
    return InvalidError(error.code, fields[0].message if fields else error.detail, errors=fields)

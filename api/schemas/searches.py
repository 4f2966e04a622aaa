"""Shapes of searches."""

from typing import Any, Final, Literal

from pydantic import ConfigDict, Field, ValidationError

from api.domain.early_stopping import Metric
from api.domain.errors import FieldError, InvalidError
from api.domain.searches import (
    MOST_TRAININGS,
    EarlyStopping,
    Method,
    Options,
    Range,
    SearchPlan,
    SearchSpec,
    Space,
    Trial,
    draw,
    grid,
    placed,
    size,
)
from api.domain.training_spec import TrainingSpec
from api.schemas.base import Failure, Figure, ResponseModel, StopReason, Timestamp
from api.schemas.options import SEARCHED
from api.schemas.space import Choice, OptionName, invalid, read
from api.schemas.trainings import TrainingCreate
from api.services.searches import SearchView, TrialView

SearchStatus = Literal["pending", "running", "stopping", "completed", "stopped", "failed"]
_DRAWN: Final = 10
_GRACE_EPOCHS: Final = 1
_GRACE_TRAININGS: Final = 3
_OF_THE_SEARCH: Final = frozenset({"budget_usd", "max_minutes"})


class SearchCreate(TrainingCreate):
    """The options of a training, which all trainings of the search share, and what they differ in."""

    method: Method = Field(
        "grid", description="grid: every combination of the space; random: `max_trainings` of them, by `seed`"
    )
    space: dict[OptionName, Choice] = Field(
        min_length=1,
        max_length=20,
        description="for each option that is searched a list of values, or for a random search also a range of numbers;"
        f" options that can be searched: {', '.join(SEARCHED)}",
    )
    max_trainings: int | None = Field(
        None, ge=1, le=MOST_TRAININGS, description=f"random: how many different combinations are drawn ({_DRAWN})"
    )
    metric: Metric = Field("validation_accuracy", description="what is the best: the highest accuracy, or the lowest loss")
    early_stopping: EarlyStopping = Field(
        "none",
        description="median: a training ends once its best metric is worse than the median of the earlier trainings' averages"
        " over as many epochs (the median stopping rule; Golovin et al., KDD 2017, section 3.2.2)",
    )
    grace_epochs: int | None = Field(
        None, ge=1, le=10_000, description=f"median: epochs that every training gets ({_GRACE_EPOCHS})"
    )
    grace_trainings: int | None = Field(
        None,
        ge=1,
        le=MOST_TRAININGS,
        description=f"median: earlier trainings that are compared with, at least ({_GRACE_TRAININGS})",
    )
    seed: int = Field(0, ge=0, le=2**31 - 1, description="of every training, and of a random search's draws")
    budget_usd: float | None = Field(
        None, gt=0, le=1e9, description="of all trainings together: end before a round that would cost more than this"
    )
    max_minutes: float | None = Field(
        None, gt=0, le=1e6, description="of the whole search: end before a round that would take longer than this"
    )

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "dataset": "/data/train_*.json",
                    "epochs": 10,
                    "method": "grid",
                    "space": {"learning_rate": [0.001, 0.0003], "batch_size": [16, 32]},
                    "metric": "validation_accuracy",
                    "early_stopping": "median",
                    "budget_usd": 2.5,
                }
            ]
        }
    )

    def search_spec(self) -> SearchSpec:
        """InvalidError with a pointer to each mistake in the space."""
        space = self._space()
        early = self.early_stopping != "none"
        for name in ("grace_epochs", "grace_trainings"):
            if getattr(self, name) is not None and not early:
                raise invalid([FieldError(f"/{name}", "nothing is stopped early without early_stopping 'median'")])
        plan = SearchPlan(
            method=self.method,
            space=self.space,
            metric=self.metric,
            early_stopping=self.early_stopping,
            grace_epochs=self.grace_epochs or _GRACE_EPOCHS,
            grace_trainings=self.grace_trainings or _GRACE_TRAININGS,
            seed=self.seed,
            budget_usd=self.budget_usd,
            max_minutes=self.max_minutes,
        )
        trials = tuple(Trial(options, self._training(options)) for options in self._combinations(space))
        return SearchSpec(plan, trials)

    def _space(self) -> Space:
        space: dict[str, list[Any] | Range] = {}
        wrong: list[FieldError] = []
        for name, choice in self.space.items():
            try:
                if name in SEARCHED and name != "seed" and self._has_value(name):
                    raise invalid([FieldError(f"/{name}", "is searched: leave it out here, or out of the space")])
                space[name] = read(name, choice, ranges=self.method == "random")
            except InvalidError as error:
                wrong += error.errors
        if wrong:
            raise invalid(wrong)
        return space

    def _has_value(self, name: str) -> bool:
        """Return whether an option was given. A value that equals its default counts as absent."""
        return bool(getattr(self, name) != type(self).model_fields[name].default)

    def _combinations(self, space: Space) -> list[Options]:
        if self.method == "random":
            return draw(space, self.max_trainings or _DRAWN, self.seed)
        if self.max_trainings is not None:
            message = "a grid trains every combination; for a part of them give method 'random'"
            raise invalid([FieldError("/max_trainings", message)])
        combinations = size(space) or 0
        if combinations > MOST_TRAININGS:
            message = f"has {combinations} combinations; a search has at most {MOST_TRAININGS} trainings"
            raise invalid([FieldError("/space", message)])
        return grid(space)

    def _training(self, options: Options) -> TrainingSpec:
        shared = self.model_dump(include=TrainingCreate.model_fields.keys() - _OF_THE_SEARCH, exclude_unset=True)
        try:
            return TrainingCreate.model_validate({**shared, **options}).spec()
        except InvalidError as error:
            raise placed(error, options) from None
        except ValidationError as error:
            found = tuple(FieldError("/" + "/".join(map(str, item["loc"])), item["msg"]) for item in error.errors())
            raise placed(invalid(found), options) from None


class SearchTrial(ResponseModel):
    """One training of a search; figures are null until they were measured."""

    options: dict[str, Any] = Field(description="what it has of the space")
    training_id: str | None = Field(description="null until it begins")
    status: str = Field(description="waiting; skipped, when the search ended before it; else its training's status")
    metric: Figure | None = Field(description="the search's metric after its last completed round")
    epochs: int = Field(description="epochs that it has trained")
    stop_reason: StopReason | None = Field(description="why it ended before its last epoch")
    error: Failure | None

    @classmethod
    def of(cls, view: TrialView, *, ended: bool) -> "SearchTrial":
        training = view.training
        return cls(
            options=view.options,
            training_id=training.id if training else None,
            status=training.status if training else "skipped" if ended else "waiting",
            metric=view.metric,
            epochs=view.epochs,
            stop_reason=StopReason.of(training.stop_reason) if training else None,
            error=Failure.of(training.error) if training else None,
        )


class Search(ResponseModel):
    search_id: str = Field(examples=["search_k2j9x4m7q1"])
    cluster_id: str
    status: SearchStatus
    method: Method
    space: dict[str, Any] = Field(description="as it was asked for")
    metric: Metric
    early_stopping: EarlyStopping
    grace_epochs: int
    grace_trainings: int
    seed: int
    budget_usd: float | None
    max_minutes: float | None
    config: dict[str, Any] = Field(description="what all its trainings share of a training's config")
    trials: list[SearchTrial] = Field(description="in the order in which they train, one after the other")
    best_training_id: str | None = Field(
        description="the best measured metric of those completed or stopped; the first of equals"
    )
    best_options: dict[str, Any] | None
    best_metric: Figure | None
    cost_usd: Figure = Field(description="of its trainings so far")
    stop_reason: StopReason | None = Field(description="why it ended before its last training")
    error: Failure | None
    created_at: Timestamp
    started_at: Timestamp | None
    finished_at: Timestamp | None

    @classmethod
    def of(cls, view: SearchView) -> "Search":
        row, best = view.search, view.best
        ended = row.finished_at is not None
        return cls(
            search_id=row.id,
            cluster_id=row.cluster_id,
            status=row.status,
            **row.plan.model_dump(),
            config={name: value for name, value in row.config.items() if name not in _OF_THE_SEARCH},
            trials=[SearchTrial.of(trial, ended=ended) for trial in view.trials],
            best_training_id=best.training.id if best is not None and best.training is not None else None,
            best_options=best.options if best is not None else None,
            best_metric=best.metric if best is not None else None,
            cost_usd=float(view.cost_usd),
            stop_reason=StopReason.of(row.stop_reason),
            error=Failure.of(row.error),
            created_at=row.created_at,
            started_at=row.started_at,
            finished_at=row.finished_at,
        )

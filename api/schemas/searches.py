"""Models of searches."""

from typing import Any, Final

from pydantic import ConfigDict, Field, GetJsonSchemaHandler, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema

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
    Value,
    draw,
    error_of_space,
    grid,
    size,
)
from api.domain.status import SearchState, TrialState
from api.domain.training_spec import TrainingSpec
from api.schemas.base import Failure, Figure, ResponseModel, StopReason, Timestamp
from api.schemas.options import SEARCHABLE
from api.schemas.space import Choice, OptionName, OptionValue, invalid_request, read_choice
from api.schemas.trainings import TrainingCreate
from api.services.searches import SearchView, TrialView

_DEFAULT_TRAININGS: Final = 10
_DEFAULT_GRACE_EPOCHS: Final = 1
_DEFAULT_GRACE_TRAININGS: Final = 3
_LIMITS: Final = frozenset({"budget_usd", "max_minutes"})


def _option(name: str, description: str) -> Any:
    """Return the field of a training's option with another description, for `SearchCreate`."""
    return FieldInfo.merge_field_infos(TrainingCreate.model_fields[name], description=description)


class SearchCreate(TrainingCreate):
    """The options that all trainings of the search share, and the space that they differ in.

    `TrainingCreate` explains the options of a training.
    """

    method: Method = Field(
        "grid", description="grid: every combination of the space. random: `max_trainings` of them, drawn by `seed`."
    )
    space: dict[OptionName, Choice] = Field(
        min_length=1,
        max_length=20,
        description="For each searched option a list of values. A random search also takes a range of numbers. "
        f"A search may vary these options: {', '.join(SEARCHABLE)}.",
    )
    max_trainings: int | None = Field(
        None,
        ge=1,
        le=MOST_TRAININGS,
        description=f"random: the number of different combinations that are drawn. Default {_DEFAULT_TRAININGS}.",
    )
    metric: Metric = Field(
        "validation_accuracy", description="It decides which training is the best: the highest accuracy, or the lowest loss."
    )
    early_stopping: EarlyStopping = Field(
        "none",
        description="median: end a training whose best metric is worse than a median. "
        "It is the median of the earlier trainings' averages over as many epochs. "
        "Source: the median stopping rule, Golovin et al., KDD 2017, section 3.2.2.",
    )
    grace_epochs: int | None = Field(
        None,
        ge=1,
        le=10_000,
        description=f"median: no training ends before this many epochs. Default {_DEFAULT_GRACE_EPOCHS}.",
    )
    grace_trainings: int | None = Field(
        None,
        ge=1,
        le=MOST_TRAININGS,
        description="median: no training ends before this many others can be compared with it. "
        f"Default {_DEFAULT_GRACE_TRAININGS}.",
    )
    seed: int = _option("seed", "Seed of every training, and of the draws of a random search.")
    budget_usd: float | None = _option(
        "budget_usd", "Budget of all trainings together. The search ends before a round that would exceed it."
    )
    max_minutes: float | None = _option("max_minutes", "Time of the whole search. It ends before a round that would exceed it.")

    model_config = ConfigDict(
        json_schema_extra={
            "x-exclusions-of": "TrainingCreate",
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
            ],
        }
    )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        reference = handler(schema)
        for name, field in handler.resolve_ref_schema(reference)["properties"].items():  # untyped: a JSON schema
            shared = TrainingCreate.model_fields.get(name)
            if shared is not None and field.get("description") == shared.description:
                del field["description"]
        return reference

    def search_spec(self) -> SearchSpec:
        """Return the requested search, with one trial for each combination.

        Raises:
            InvalidError: with a pointer to each mistake in the space.
        """
        space = self._read_space()
        stops_early = self.early_stopping != "none"
        for name in ("grace_epochs", "grace_trainings"):
            if getattr(self, name) is not None and not stops_early:
                raise invalid_request([FieldError(f"/{name}", "no training ends early without early_stopping 'median'")])
        plan = SearchPlan(
            method=self.method,
            space=self.space,
            metric=self.metric,
            early_stopping=self.early_stopping,
            grace_epochs=self.grace_epochs or _DEFAULT_GRACE_EPOCHS,
            grace_trainings=self.grace_trainings or _DEFAULT_GRACE_TRAININGS,
            seed=self.seed,
            budget_usd=self.budget_usd,
            max_minutes=self.max_minutes,
        )
        trials = tuple(Trial(options, self._training(options)) for options in self._combinations(space))
        return SearchSpec(plan, trials)

    def _read_space(self) -> Space:
        space: dict[str, list[Value] | Range] = {}
        errors: list[FieldError] = []
        for name, choice in self.space.items():
            try:
                if name in SEARCHABLE and name != "seed" and self._has_value(name):
                    raise invalid_request([FieldError(f"/{name}", "is searched: leave it out here, or out of the space")])
                space[name] = read_choice(name, choice, allow_ranges=self.method == "random")
            except InvalidError as error:
                errors += error.errors
        if errors:
            raise invalid_request(errors)
        return space

    def _has_value(self, name: str) -> bool:
        """Return whether an option was given. A value that equals its default counts as absent."""
        return bool(getattr(self, name) != type(self).model_fields[name].default)

    def _combinations(self, space: Space) -> list[Options]:
        if self.method == "random":
            return draw(space, self.max_trainings or _DEFAULT_TRAININGS, self.seed)
        if self.max_trainings is not None:
            message = "a grid trains every combination; to train a part of them give method 'random'"
            raise invalid_request([FieldError("/max_trainings", message)])
        combinations = size(space) or 0
        if combinations > MOST_TRAININGS:
            message = f"has {combinations} combinations; a search has at most {MOST_TRAININGS} trainings"
            raise invalid_request([FieldError("/space", message)])
        return grid(space)

    def _training(self, options: Options) -> TrainingSpec:
        shared = self.model_dump(include=TrainingCreate.model_fields.keys() - _LIMITS, exclude_unset=True)
        try:
            return TrainingCreate.model_validate({**shared, **options}).spec()
        except InvalidError as error:
            raise error_of_space(error, options) from None
        except ValidationError as error:
            errors = [FieldError("/" + "/".join(map(str, item["loc"])), item["msg"]) for item in error.errors()]
            raise error_of_space(invalid_request(errors), options) from None


OptionValues = dict[str, OptionValue]


class SearchTrial(ResponseModel):
    """One training of a search. Metrics are null until they were measured."""

    options: OptionValues = Field(description="Its combination from the space.")
    training_id: str | None = Field(description="null until the training begins.")
    status: TrialState
    metric: Figure | None = Field(description="The search's metric after the last completed round.")
    epochs: int = Field(description="Epochs trained so far.")
    stop_reason: StopReason | None = Field(description="Why the training ended before its last epoch.")
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
    """A search for the best options of a training."""

    search_id: str = Field(examples=["search_k2j9x4m7q1"])
    cluster_id: str
    status: SearchState
    method: Method
    space: dict[str, Choice] = Field(description="The space of the request.")
    metric: Metric
    early_stopping: EarlyStopping
    grace_epochs: int
    grace_trainings: int
    seed: int
    budget_usd: float | None
    max_minutes: float | None
    config: OptionValues = Field(description="The options that all its trainings share.")
    progress: Figure = Field(description="The part of the trainings that is done, 0..1; 1 when the search has ended.")
    trials: list[SearchTrial] = Field(description="The trainings, in the order in which they run.")
    best_training_id: str | None = Field(
        description="The training with the best metric, of those completed or stopped. The first of equals."
    )
    best_options: OptionValues | None
    best_metric: Figure | None
    cost_usd: Figure = Field(description="Cost of its trainings so far.")
    stop_reason: StopReason | None = Field(description="Why the search ended before its last training.")
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
            config={name: value for name, value in row.config.items() if name not in _LIMITS},
            progress=view.progress,
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

"""A training's options one by one: which of them a search may vary, and what their values may be."""

from functools import cache
from typing import Annotated, Any, Final, get_args

from pydantic import ConfigDict, TypeAdapter, ValidationError

from api.schemas.trainings import TrainingCreate

# Trainings of a search see the same data for as many epochs, so that their metrics compare; its limits are the search's.
_SHARED: Final = frozenset(
    {
        "dataset", "validation", "text_field", "label_field", "label_names", "on_bad_rows",
        "epochs", "federated", "gradient_compression",
        "target_accuracy", "patience", "budget_usd", "max_minutes",
    }
)  # fmt: skip
SEARCHED: Final = tuple(name for name in TrainingCreate.model_fields if name not in _SHARED)


def is_number(name: str) -> bool:
    return is_whole(name) or float in _types(name)


def is_whole(name: str) -> bool:
    return int in _types(name)


def _types(name: str) -> tuple[Any, ...]:
    annotation = TrainingCreate.model_fields[name].annotation
    return (annotation, *get_args(annotation))


def wrong_value(name: str, value: object) -> str | None:
    """Why a training would refuse this value of an option; None where it would not."""
    try:
        _adapter(name).validate_python(value)
    except ValidationError as error:
        return str(error.errors()[0]["msg"])
    return None


@cache
def _adapter(name: str) -> TypeAdapter[Any]:
    field = TrainingCreate.model_fields[name]
    checked: Any = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
    return TypeAdapter(checked, config=ConfigDict(strict=True, allow_inf_nan=False))

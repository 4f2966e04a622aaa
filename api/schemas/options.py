"""The options of a training that a search may vary, and their allowed values."""

from functools import cache
from typing import Annotated, Any, Final, get_args

from pydantic import ConfigDict, TypeAdapter, ValidationError

from api.schemas.trainings import TrainingCreate

# All trainings of a search use the same data and the same number of epochs. Otherwise their metrics
# could not be compared. The limits are those of the whole search.
_NOT_SEARCHABLE: Final = frozenset(
    {
        "dataset", "validation", "text_field", "label_field", "label_names", "on_bad_rows",
        "initial_model", "epochs", "federated", "gradient_compression", "late_joiners",
        "target_accuracy", "patience", "budget_usd", "max_minutes",
    }
)  # fmt: skip
SEARCHABLE: Final = tuple(name for name in TrainingCreate.model_fields if name not in _NOT_SEARCHABLE)


def is_number(name: str) -> bool:
    return is_integer(name) or float in _types(name)


def is_integer(name: str) -> bool:
    return int in _types(name)


def _types(name: str) -> tuple[object, ...]:
    """Return the type of an option. For a union, its parts follow."""
    annotation = TrainingCreate.model_fields[name].annotation
    return (annotation, *get_args(annotation))


def refusal(name: str, value: object) -> str | None:
    """Return why a training would refuse this value of an option, or None if it is allowed."""
    try:
        _adapter(name).validate_python(value)
    except ValidationError as error:
        return str(error.errors()[0]["msg"])
    return None


@cache
def _adapter(name: str) -> TypeAdapter[object]:
    """Return a validator of the option's type and bounds."""
    field = TrainingCreate.model_fields[name]
    # A type with bounds that exists only at run time, so that no type checker can know it.
    annotation: Any = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
    return TypeAdapter(annotation, config=ConfigDict(strict=True, allow_inf_nan=False))

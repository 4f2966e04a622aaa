"""The space of a search as a client writes it: for each option a list of values, or a range of numbers."""

from collections.abc import Sequence
from typing import Annotated, Any, Final, get_args

from pydantic import Field, ValidationError, WithJsonSchema
from pydantic_core import ErrorDetails

from api.domain.errors import FieldError, InvalidError
from api.domain.searches import MOST_TRAININGS, Range, Scale
from api.schemas.base import RequestModel
from api.schemas.options import SEARCHED, is_number, is_whole, wrong_value

_MOST_ERRORS: Final = 20


class SearchRange(RequestModel):
    """Numbers from `min` to `max`, both included."""

    min: int | float
    max: int | float
    scale: Scale = "linear"


OptionName = Annotated[str, Field(max_length=50, pattern=r"^[a-z0-9_]+$")]
# Documented in full and read by hand, so that what is wrong with one value is told of that value.
Choice = Annotated[
    Any,
    WithJsonSchema(
        {
            "anyOf": [
                {
                    "type": "array",
                    "items": {"type": ["boolean", "number", "string", "null"]},
                    "minItems": 1,
                    "maxItems": MOST_TRAININGS,
                },
                {
                    "type": "object",
                    "properties": {
                        "min": {"type": "number"},
                        "max": {"type": "number", "description": "included, as is min"},
                        "scale": {
                            "enum": list(get_args(Scale)),
                            "default": "linear",
                            "description": "log: each power of ten is as likely as the next",
                        },
                    },
                    "required": ["min", "max"],
                    "additionalProperties": False,
                },
            ]
        }
    ),
]


def read(name: str, choice: Any, *, ranges: bool) -> list[Any] | Range:
    """The values of one option, or their range where `ranges` are allowed. InvalidError with a pointer to each mistake."""
    pointer = f"/space/{name}"
    if name not in SEARCHED:
        raise invalid([FieldError(pointer, f"cannot be searched; there are {', '.join(SEARCHED)}")])
    if isinstance(choice, dict):
        return _range(name, pointer, choice, ranges=ranges)
    if not isinstance(choice, list) or not 1 <= len(choice) <= MOST_TRAININGS:
        raise invalid([FieldError(pointer, f"give a list of 1 to {MOST_TRAININGS} values, or a range of numbers")])
    _check_values(name, [(f"{pointer}/{position}", value) for position, value in enumerate(choice)])
    twice = [position for position, value in enumerate(choice) if value in choice[:position]]
    if twice:
        raise invalid([FieldError(f"{pointer}/{position}", "is there twice") for position in twice])
    return choice


def _range(name: str, pointer: str, choice: dict[str, Any], *, ranges: bool) -> Range:
    if not ranges or not is_number(name):
        raise invalid([FieldError(pointer, "a range is for numbers of a random search; give a list of values")])
    try:
        asked = SearchRange.model_validate(choice)
    except ValidationError as error:
        raise invalid([_of_range(pointer, item) for item in error.errors()]) from None
    _check_values(name, [(f"{pointer}/min", asked.min), (f"{pointer}/max", asked.max)])
    if asked.min >= asked.max or (asked.scale == "log" and asked.min <= 0):
        raise invalid([FieldError(f"{pointer}/min", "must be less than max, and above 0 on a log scale")])
    return Range(asked.min, asked.max, asked.scale, is_whole(name))


def _of_range(pointer: str, item: ErrorDetails) -> FieldError:
    field = item["loc"][0] if item["loc"] else ""
    return FieldError(f"{pointer}/{field}" if field in SearchRange.model_fields else pointer, item["msg"])


def _check_values(name: str, values: "list[tuple[str, object]]") -> None:
    wrong = [FieldError(pointer, message) for pointer, value in values if (message := wrong_value(name, value)) is not None]
    if wrong:
        raise invalid(wrong)


def invalid(errors: Sequence[FieldError]) -> InvalidError:
    return InvalidError("invalid_request", errors[0].message, errors=tuple(errors[:_MOST_ERRORS]))

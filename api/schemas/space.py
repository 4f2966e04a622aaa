"""The space of a search in a request: for each option a list of values, or a range of numbers."""

from collections.abc import Sequence
from typing import Annotated, Any, Final

from pydantic import Field, ValidationError
from pydantic_core import ErrorDetails

from api.domain.errors import FieldError, InvalidError
from api.domain.searches import MOST_TRAININGS, Range, Scale, Value
from api.domain.words import words_of
from api.schemas.base import RequestModel
from api.schemas.named import NamedSchema
from api.schemas.options import SEARCHABLE, is_integer, is_number, refusal

_MOST_ERRORS: Final = 20


class SearchRange(RequestModel):
    """The numbers from `min` to `max`, both included."""

    min: int | float
    max: int | float
    scale: Scale = "linear"


def _any_of(*options: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [*options]}


_SCALARS: Final = ({"type": "boolean"}, {"type": "number"}, {"type": "string"}, {"type": "null"})
_TEXTS: Final = {"type": "array", "items": {"type": "string"}}
_NAMES: Final = {"type": "object", "additionalProperties": {"type": "string"}}
_PRIVACY: Final = {"$ref": "#/components/schemas/DifferentialPrivacy"}

OptionName = Annotated[str, Field(max_length=50, pattern=r"^[a-z0-9_]+$")]
OptionValue = Annotated[
    Any,
    NamedSchema("OptionValue", "The value of an option of a training.", _any_of(*_SCALARS, _TEXTS, _NAMES, _PRIVACY)),
]
_LIST: Final = {"type": "array", "items": _any_of(*_SCALARS), "minItems": 1, "maxItems": MOST_TRAININGS}
_RANGE: Final = {
    "type": "object",
    "properties": {
        "min": {"type": "number", "description": "The smallest number."},
        "max": {"type": "number", "description": "The largest number."},
        "scale": {
            "enum": [*words_of(Scale)],
            "type": "string",
            "default": "linear",
            "description": "log: each power of ten is equally likely.",
        },
    },
    "required": ["min", "max"],
    "additionalProperties": False,
}
# The schema is written out, and `read_choice` checks the value. So an error names the one wrong
# value. pydantic would name both forms of a choice.
Choice = Annotated[object, NamedSchema("SearchChoice", "A list of values, or a range of numbers.", _any_of(_LIST, _RANGE))]


def read_choice(name: str, choice: object, *, allow_ranges: bool) -> list[Value] | Range:
    """Return the values of one option, or their range.

    Raises:
        InvalidError: with a pointer to each mistake.
    """
    pointer = f"/space/{name}"
    if name not in SEARCHABLE:
        raise invalid_request([FieldError(pointer, f"cannot be searched; a search may vary {', '.join(SEARCHABLE)}")])
    if isinstance(choice, dict):
        return _read_range(name, pointer, choice, allow_ranges=allow_ranges)
    if not isinstance(choice, list) or not 1 <= len(choice) <= MOST_TRAININGS:
        raise invalid_request([FieldError(pointer, f"give a list of 1 to {MOST_TRAININGS} values, or a range of numbers")])
    _check_values(name, [(f"{pointer}/{position}", value) for position, value in enumerate(choice)])
    repeated = [position for position, value in enumerate(choice) if value in choice[:position]]
    if repeated:
        raise invalid_request([FieldError(f"{pointer}/{position}", "is in the list twice") for position in repeated])
    return choice


def _read_range(name: str, pointer: str, choice: dict[str, object], *, allow_ranges: bool) -> Range:
    if not allow_ranges or not is_number(name):
        raise invalid_request([FieldError(pointer, "a range is for numbers of a random search; give a list of values")])
    try:
        numbers = SearchRange.model_validate(choice)
    except ValidationError as error:
        raise invalid_request([_range_error(pointer, details) for details in error.errors()]) from None
    _check_values(name, [(f"{pointer}/min", numbers.min), (f"{pointer}/max", numbers.max)])
    if numbers.min >= numbers.max or (numbers.scale == "log" and numbers.min <= 0):
        raise invalid_request([FieldError(f"{pointer}/min", "must be less than max, and above 0 on a log scale")])
    return Range(numbers.min, numbers.max, numbers.scale, is_integer(name))


def _range_error(pointer: str, details: ErrorDetails) -> FieldError:
    field = details["loc"][0] if details["loc"] else ""
    return FieldError(f"{pointer}/{field}" if field in SearchRange.model_fields else pointer, details["msg"])


def _check_values(name: str, values: Sequence[tuple[str, object]]) -> None:
    """Check values of one option. Each comes with its pointer.

    Raises:
        InvalidError: with each value that the option does not allow.
    """
    refused = [FieldError(pointer, message) for pointer, value in values if (message := refusal(name, value)) is not None]
    if refused:
        raise invalid_request(refused)


def invalid_request(errors: Sequence[FieldError]) -> InvalidError:
    return InvalidError("invalid_request", errors[0].message, errors=tuple(errors[:_MOST_ERRORS]))

"""Base classes and types of all models of the API."""

from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Generic, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    PlainSerializer,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import CoreSchema

from api.domain.figures import rounded, rounded_figures
from api.domain.problem_codes import Code
from api.domain.records import FailureReason
from api.domain.stopping import StopCode, TrainingStop

T = TypeVar("T")
_MOST_FIELDS = 100
# Each integer up to here has a double of its own.
_EXACT = 2**53
# No field lies deeper in a body.
_LEVELS = 8


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _printable(text: str) -> str:
    """Refuse characters that Postgres cannot store or that control a terminal."""
    if any(ord(char) < 32 or ord(char) == 127 or 0xD800 <= ord(char) <= 0xDFFF for char in text):
        raise ValueError("must not contain control characters or lone surrogates")
    return text


def storable(text: str) -> str:
    if any(char == "\x00" or 0xD800 <= ord(char) <= 0xDFFF for char in text):
        raise ValueError("must not contain NUL or lone surrogates")
    return text


def filled(text: str) -> str:
    """Refuse a blank text. This is the one rule for blank texts in requests: they are no value."""
    if not text.strip():
        raise ValueError("must not be blank")
    return text


def _with_integers(value: Any, levels: int = _LEVELS) -> Any:
    """Turn 10.0 into 10: JSON has one kind of number, and its 10.0 is an integer (RFC 8259)."""
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) <= _EXACT else value
    if isinstance(value, dict) and levels:
        return {name: _with_integers(part, levels - 1) for name, part in value.items()}
    return [_with_integers(part, levels - 1) for part in value] if isinstance(value, list) and levels else value


Timestamp = Annotated[
    datetime,
    PlainSerializer(_rfc3339, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
# A measured figure. JSON has it rounded. Python has every digit.
Figure = Annotated[float, PlainSerializer(rounded, return_type=float, when_used="json")]
# A JSON value from the agents, with figures in it.
Figures = Annotated[T, PlainSerializer(rounded_figures, when_used="json")]
# Bytes, sizes, and counts that can exceed 2**31.
Int64 = Annotated[int, Field(json_schema_extra={"format": "int64"})]
Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(filled), AfterValidator(_printable)]
Word = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(filled), AfterValidator(_printable)]
Prose = Annotated[str, Field(min_length=1, max_length=20_000), AfterValidator(filled), AfterValidator(storable)]


class RequestModel(BaseModel):
    """A body that a client sends. Unknown fields, other types and NaN are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _few_fields(cls, fields: Any) -> Any:
        """Refuse many fields at once. One by one, half a million would take seconds."""
        if isinstance(fields, dict) and len(fields) > _MOST_FIELDS:
            raise ValueError(f"must not have more than {_MOST_FIELDS} fields")
        return _with_integers(fields)


class ResponseModel(BaseModel):
    """The body of an answer, or a part of it. Its schema requires every field: all are sent."""

    model_config = ConfigDict(extra="forbid")
    all_are_sent: ClassVar[bool] = True

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        reference = handler(schema)
        model = handler.resolve_ref_schema(reference)
        if cls.all_are_sent:
            model["required"] = [*model.get("properties", {})]  # untyped: a JSON schema
            for field in model.get("properties", {}).values():  # untyped: a JSON schema
                field.pop("default", None)
        return reference


class Page(ResponseModel, Generic[T]):
    """One page of a list, the newest item first."""

    @classmethod
    def model_parametrized_name(cls, params: tuple[Any, ...]) -> str:
        """Return the name of the schema: `ClusterPage` for a page of clusters."""
        return f"{params[0].__name__}Page"

    items: list[T]
    next_cursor: str | None = Field(description="The value of ?cursor= for the next page; null on the last page.")


class StopReason(ResponseModel):
    """Why a training ended before its last epoch, or a search before its last training."""

    code: StopCode
    detail: str

    @classmethod
    def of(cls, reason: TrainingStop | None) -> "StopReason | None":
        return cls(code=reason.code, detail=reason.detail) if reason else None


class Failure(ResponseModel):
    """Why something failed."""

    code: Code
    detail: str

    @classmethod
    def of(cls, error: FailureReason | None) -> "Failure | None":
        return cls(code=error.code, detail=error.detail) if error else None

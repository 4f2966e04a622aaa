"""Typed values that a database column holds as JSON.

Each is parsed once, when its row is loaded.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict

from api.domain.errors import DomainError, FieldError


class Record(BaseModel):
    """A value that never changes. A changed value is a new record: `model_copy(update=...)`."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class FailureReason(Record):
    """Why something failed.

    For a refused training it also has the HTTP status and the wrong fields.
    """

    code: str
    detail: str
    status: int | None = None
    errors: tuple[FieldError, ...] = ()

    @classmethod
    def of(cls, error: DomainError) -> "FailureReason":
        return cls(code=error.code, detail=error.detail)

    def facts(self) -> dict[str, Any]:
        """Return the reason as an event carries it."""
        return self.model_dump(mode="json", exclude_defaults=True)

"""Typed forms of JSON columns."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

from api.domain.errors import FieldError

ConnectionDocument = TypedDict("ConnectionDocument", {"from": str, "to": str})
"""An edge of a cluster: two node ids, or a node id and `all`."""


class FormerSandbox(TypedDict):
    """An earlier sandbox of a node. The times are in ISO 8601."""

    sandbox_id: str | None
    started_at: str
    ended_at: str


class RejectedUpdatesDocument(TypedDict):
    """How often updates of a node were rejected, and the last rejection."""

    count: int
    last_training_id: str
    last_round: int
    last_reason: str


@dataclass(frozen=True, slots=True)
class FailureDocument:
    """Why something failed. A refused training also has an HTTP status and wrong fields."""

    code: str
    detail: str
    status: int | None = None
    errors: tuple[FieldError, ...] = ()

    @classmethod
    def parse(cls, column: Mapping[str, Any]) -> "FailureDocument":
        """Return the failure that an `error` column holds."""
        errors = tuple(FieldError(item["pointer"], item["message"]) for item in column.get("errors", ()))
        return cls(column["code"], column["detail"], column.get("status"), errors)

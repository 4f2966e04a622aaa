"""Pages of a list, newest first, by a cursor that survives inserts."""

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from sqlalchemy import Select, tuple_
from sqlalchemy.orm import Session

from api.domain.errors import FieldError, InvalidError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last row that a client has seen."""

    created_at: datetime
    row_id: str

    def encode(self) -> str:
        raw = json.dumps([self.created_at.isoformat(), self.row_id], separators=(",", ":"))
        return base64.urlsafe_b64encode(raw.encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str) -> "Cursor":
        try:
            raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
            created_at, row_id = json.loads(raw)
            moment = datetime.fromisoformat(created_at)
            if moment.tzinfo is None or not isinstance(row_id, str) or "\x00" in row_id:
                raise ValueError
            row_id.encode()
            return cls(moment, row_id)
        except (ValueError, TypeError, OverflowError, RecursionError, binascii.Error) as error:
            message = "this is not a cursor that a list has returned"
            raise InvalidError("invalid_cursor", message, errors=(FieldError("/cursor", message),)) from error


@dataclass(frozen=True, slots=True)
class RowPage(Generic[T]):
    items: Sequence[T]
    next: Cursor | None


def fetch(session: Session, query: Select[Any], table: Any, limit: int, after: Cursor | None) -> RowPage[Any]:
    """Run `query` over `table` (with created_at and id), newest first."""
    if after is not None:
        query = query.where(tuple_(table.created_at, table.id) < (after.created_at, after.row_id))
    rows = session.scalars(query.order_by(table.created_at.desc(), table.id.desc()).limit(limit + 1)).all()
    items = rows[:limit]
    more = len(rows) > limit
    return RowPage(items, Cursor(items[-1].created_at, items[-1].id) if more else None)

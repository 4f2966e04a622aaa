"""Pages of a list, the newest row first. A cursor stays valid while rows are inserted."""

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
class PageCursor:
    """The position in a list: the last row that the client has seen."""

    created_at: datetime
    row_id: str

    def encode(self) -> str:
        raw = json.dumps([self.created_at.isoformat(), self.row_id], separators=(",", ":"))
        return base64.urlsafe_b64encode(raw.encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str) -> "PageCursor":
        """Return the cursor that `encode` wrote.

        Raises:
            InvalidError: the text is not a cursor.
        """
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
class PageRequest:
    """The page that a client wants: at most `limit` items after `after` (None: from the newest)."""

    limit: int
    after: PageCursor | None = None


@dataclass(frozen=True, slots=True)
class ResultPage(Generic[T]):
    """One page of results. `next` is the cursor of the next page, None on the last."""

    items: Sequence[T]
    next: PageCursor | None


def fetch_page(session: Session, query: Select[Any], table: Any, page_request: PageRequest) -> ResultPage[Any]:
    """Run `query` over `table`, the newest row first. `table` has the columns created_at and id."""
    after, limit = page_request.after, page_request.limit
    if after is not None:
        query = query.where(tuple_(table.created_at, table.id) < (after.created_at, after.row_id))
    rows = session.scalars(query.order_by(table.created_at.desc(), table.id.desc()).limit(limit + 1)).all()
    items = rows[:limit]
    more = len(rows) > limit
    return ResultPage(items, PageCursor(items[-1].created_at, items[-1].id) if more else None)

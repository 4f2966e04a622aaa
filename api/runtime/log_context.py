"""The ids that belong to what a thread or a task does now. Each line of a JSON log has them."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

from api.domain import ids

REQUEST_ID = "request_id"
_EMPTY: Mapping[str, str] = {}
_current: ContextVar[Mapping[str, str]] = ContextVar("log_context", default=_EMPTY)


def current() -> Mapping[str, str]:
    """Return the ids by field name, for example `training_id`."""
    return _current.get()


@contextmanager
def bound(fields: Mapping[str, str]) -> Iterator[None]:
    """Add `fields` to the ids until the end of the block."""
    token = _current.set({**_current.get(), **fields})
    try:
        yield
    finally:
        _current.reset(token)


def replace(fields: Mapping[str, str]) -> None:
    """Set the ids of this thread, for work that has a begin and an end but no block."""
    _current.set(fields)


def ids_among(values: Iterable[object]) -> dict[str, str]:
    """Return those values that are ids, by field name. Of several with one name, the first."""
    found: dict[str, str] = {}
    for value in values:
        if isinstance(value, str) and (field := ids.field_of(value)) is not None:
            found.setdefault(field, value)
    return found

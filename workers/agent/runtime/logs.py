"""One JSON object per line on standard output.

Callers log names, counts and durations. They never log texts, labels or tokens.
"""

import json
import logging
import re
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType

_MOST_FRAMES = 12
_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_trace_id: ContextVar[str | None] = ContextVar("trace_id", default=None)
_ErrorInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


@contextmanager
def within_trace(traceparent: str) -> Iterator[None]:
    """Name the trace of `traceparent` (W3C Trace Context) in the lines that the block logs.

    Tasks that begin in the block keep it.
    """
    found = _TRACEPARENT.fullmatch(traceparent)
    token = _trace_id.set(found.group(1) if found else None)
    try:
        yield
    finally:
        _trace_id.reset(token)


class Log:
    def __init__(self, node_id: str) -> None:
        self._node_id = node_id

    def __call__(self, event: str, **facts: str | float | None) -> None:
        trace_id = _trace_id.get()
        traced = {} if trace_id is None else {"trace_id": trace_id}
        line = {"time": round(time.time(), 3), "node_id": self._node_id, "event": event, **traced, **facts}
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


class _ErrorTypeFormatter(logging.Formatter):
    """Writes an error's type and places. Its message may quote a text or a label."""

    def format(self, record: logging.LogRecord) -> str:
        if record.name == "asyncio":
            # Its further lines show a task with its error.
            record.msg, record.args = record.getMessage().split("\n")[0], ()
        return super().format(record)

    def formatException(self, ei: _ErrorInfo) -> str:  # noqa: N802 - the name is the base class's
        frames = traceback.extract_tb(ei[2])[-_MOST_FRAMES:]
        places = " < ".join(f"{frame.filename}:{frame.lineno}" for frame in reversed(frames))
        return f"{type(ei[1]).__name__} at {places}"


def hide_messages() -> None:
    """Send warnings of all libraries to stderr, without the messages of errors."""
    handler = logging.StreamHandler()
    handler.setLevel(logging.WARNING)
    handler.setFormatter(_ErrorTypeFormatter("%(levelname)s %(name)s %(message)s"))
    logging.getLogger().addHandler(handler)

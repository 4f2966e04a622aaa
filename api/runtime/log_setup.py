"""Logging of the API and of the Celery worker: one format, one level, and no message of an error.

The message of an error may quote a text or a label. For example, the database quotes the value
that it refuses. So a log has an error's type and place, and never its message.
"""

import logging
import traceback
from types import TracebackType

_FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"
_MOST_FRAMES = 12
_MOST_CAUSES = 5
_ErrorInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


def describe(error: BaseException) -> str:
    """Return the type and the places of an error and of its causes, the innermost place first."""
    parts: list[str] = []
    current: BaseException | None = error
    while current is not None and len(parts) < _MOST_CAUSES:
        frames = traceback.extract_tb(current.__traceback__)[-_MOST_FRAMES:]
        places = " < ".join(f"{frame.filename}:{frame.lineno}" for frame in reversed(frames))
        parts.append(f"{type(current).__name__} at {places or 'an unknown place'}")
        current = current.__cause__ or current.__context__
    return "; caused by ".join(parts)


class ErrorTypeFormatter(logging.Formatter):
    """A formatter that writes an error's type and places instead of its message."""

    def format(self, record: logging.LogRecord) -> str:
        # Another handler may have written the full traceback into the record.
        record.exc_text = None
        if record.name == "asyncio":
            # Its further lines show a task with its error.
            record.msg, record.args = record.getMessage().split("\n")[0], ()
        return super().format(record)

    def formatException(self, ei: _ErrorInfo) -> str:  # noqa: N802 - the name is the base class's
        return describe(ei[1]) if ei[1] is not None else ""


def set_up_logging(level: str) -> None:
    """Log to stderr from `level` upwards, a name of the `logging` module in any case."""
    logging.basicConfig(level=level.upper(), format=_FORMAT)
    hide_messages()
    # At INFO, httpx writes a line for each request.
    logging.getLogger("httpx").setLevel(logging.WARNING)


def hide_messages(*more: logging.Logger) -> None:
    """Give the handlers of the root, of uvicorn and of `more` loggers the formatter of this
    module.
    """
    for logger in (logging.getLogger(), logging.getLogger("uvicorn"), *more):
        for handler in logger.handlers:
            handler.setFormatter(ErrorTypeFormatter(_FORMAT))

"""Logging of the API, of the Celery worker and of beat: one format, one level, and no message of
an error.

The message of an error may quote a text or a label. For example, the database quotes the value
that it refuses. So a log has an error's type and place, and never its message.
"""

import json
import logging
import traceback
from datetime import UTC, datetime
from types import TracebackType
from typing import Literal

from api.runtime import log_context, tracing

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


class JsonFormatter(ErrorTypeFormatter):
    """A formatter that writes one JSON object a line.

    It has the ids of the current request or step, and those that the message itself names.
    """

    def format(self, record: logging.LogRecord) -> str:
        # The base class cuts the message of some records.
        super().format(record)
        arguments = record.args if isinstance(record.args, tuple) else ()
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **tracing.current_ids(),
            **log_context.current(),
            **log_context.ids_among(arguments),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line)


def set_up_logging(level: str, log_format: Literal["json", "text"]) -> None:
    """Log to stderr from `level` upwards, a name of the `logging` module in any case.

    A process that logs already stays as it is.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if log_format == "json" else ErrorTypeFormatter(_FORMAT))
    logging.basicConfig(level=level.upper(), handlers=[handler])
    logging.captureWarnings(True)
    # `python -m uvicorn` has handlers of its own, which write the messages of errors.
    for name in ("uvicorn", "uvicorn.access"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    # At INFO, httpx writes a line for each request. At DEBUG, httpcore writes ten.
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)

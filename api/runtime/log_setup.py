"""Logging of the API and of the Celery worker: one format, one level."""

import logging

_FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"


def set_up_logging(level: str) -> None:
    """Log to stderr from `level` upwards, a name of the `logging` module in any case."""
    logging.basicConfig(level=level.upper(), format=_FORMAT)
    # At INFO, httpx writes a line for each request.
    logging.getLogger("httpx").setLevel(logging.WARNING)

"""No log has the message of an error, because it may quote a customer's text."""

import io
import logging

import pytest

from api.runtime.log_setup import ErrorTypeFormatter, describe
from workers.quiet_task import QuietTask

_TEXT = "a customer's text"


def _raise() -> None:
    try:
        raise KeyError(_TEXT)
    except KeyError as error:
        raise ValueError(f"refused: {_TEXT}") from error


def test_an_error_is_described_by_its_types_and_places() -> None:
    with pytest.raises(ValueError, match="refused") as caught:
        _raise()
    described = describe(caught.value)
    assert described.startswith("ValueError at ")
    assert "; caused by KeyError at " in described
    assert "test_log_setup.py:" in described
    assert "customer" not in described


def test_a_traceback_is_logged_without_messages() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(ErrorTypeFormatter("%(message)s"))
    logger = logging.getLogger("tests.log_setup")
    logger.propagate = False
    logger.handlers = [handler]
    try:
        _raise()
    except ValueError:
        logger.exception("failed")
    assert "ValueError at " in stream.getvalue()
    assert "customer" not in stream.getvalue()


def test_a_task_that_fails_is_logged_without_the_message(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(QuietTask):
        name = "flow_nexus.failing"

        def run(self) -> None:
            _raise()

    Failing()()
    assert "flow_nexus.failing failed: ValueError at " in caplog.text
    assert "customer" not in caplog.text

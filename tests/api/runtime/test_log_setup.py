"""No log has the message of an error, because it may quote a customer's text."""

import io
import json
import logging
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from api.runtime import log_context
from api.runtime.log_setup import ErrorTypeFormatter, JsonFormatter, describe
from workers.quiet_task import QuietTask

_TEXT = "a customer's text"


def _raise() -> None:
    try:
        raise KeyError(_TEXT)
    except KeyError as error:
        raise ValueError(f"refused: {_TEXT}") from error


@pytest.fixture
def json_log() -> Iterator[tuple[logging.Logger, io.StringIO]]:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("tests.json_log")
    logger.propagate, logger.handlers = False, [handler]
    yield logger, stream
    logger.handlers = []


def only_line(stream: io.StringIO) -> dict[str, Any]:
    (line,) = stream.getvalue().splitlines()
    return dict(json.loads(line))


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


def test_a_json_line_has_the_ids_of_its_request_and_those_that_it_names(json_log: tuple[logging.Logger, io.StringIO]) -> None:
    logger, stream = json_log
    fields = {"request_id": "req_1", "training_id": "train_fed_aaaaaaaaaa"}
    with log_context.bound(fields), log_context.bound({"cluster_id": "cls_aaaaaaaaaa"}):
        logger.warning("%s: two\nlines, %s", "node_w1_aaaaaaaaaa", "a")
    line = only_line(stream)
    assert datetime.fromisoformat(line.pop("time")).tzinfo is not None
    assert line == {
        "level": "warning",
        "logger": "tests.json_log",
        "message": "node_w1_aaaaaaaaaa: two\nlines, a",
        "node_id": "node_w1_aaaaaaaaaa",
        "cluster_id": "cls_aaaaaaaaaa",
        **fields,
    }
    assert not log_context.current()


def test_a_json_line_has_an_error_without_its_message(json_log: tuple[logging.Logger, io.StringIO]) -> None:
    logger, stream = json_log
    try:
        _raise()
    except ValueError:
        logger.exception("failed")
    line = only_line(stream)
    assert line["message"] == "failed"
    assert line["error"].startswith("ValueError at ")
    assert "customer" not in stream.getvalue()

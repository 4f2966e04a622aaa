"""The logs of the running service, which the shared stack writes in JSON."""

import json
from pathlib import Path
from typing import Any

import pytest

from api.embedded.stack import EmbeddedStack
from tests.e2e.walk import Trained


def lines_of(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines() if line]


@pytest.mark.parametrize("part", ["api", "worker", "beat"])
def test_every_line_is_an_object_with_the_same_fields(stack: EmbeddedStack, trained: Trained, part: str) -> None:
    lines = lines_of(stack.folder.log_path(part))
    assert lines
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)


def test_a_steps_lines_name_its_row_and_the_request_that_led_to_it(stack: EmbeddedStack, trained: Trained) -> None:
    lines = lines_of(stack.folder.log_path("worker"))
    steps = [line for line in lines if line.get("training_id") == trained.training_id and "request_id" in line]
    assert {line["step"] for line in steps} == {"flow_nexus.trainings.advance"}
    assert len({line["request_id"] for line in steps}) == 1, "the rounds follow from one request"
    nodes = {line["node_id"]: line["request_id"] for line in lines if {"node_id", "request_id"} <= line.keys()}
    assert {*trained.workers, trained.aggregator} <= nodes.keys()
    assert len({nodes[node_id] for node_id in trained.workers}) == 2, "each node has a request of its own"

"""The lines of an agent's log."""

import asyncio
import json

import pytest

from workers.agent.runtime.logs import Log, within_trace

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"


def test_a_task_that_a_request_began_names_the_requests_trace(capsys: pytest.CaptureFixture[str]) -> None:
    log = Log("node_w1")

    async def begin() -> None:
        with within_trace(f"00-{TRACE_ID}-00f067aa0ba902b7-01"):
            task = asyncio.create_task(asyncio.to_thread(log, "round", round=1))
        log("after")
        await task

    asyncio.run(begin())
    lines = {line["event"]: line for line in map(json.loads, capsys.readouterr().out.splitlines())}
    assert lines["round"]["trace_id"] == TRACE_ID
    assert "trace_id" not in lines["after"]


@pytest.mark.parametrize("header", ["", "text", f"00-{TRACE_ID}-00f067aa0ba902b7-01 and text", TRACE_ID])
def test_a_header_of_another_form_is_not_logged(header: str, capsys: pytest.CaptureFixture[str]) -> None:
    with within_trace(header):
        Log("node_w1")("round")
    assert "trace_id" not in json.loads(capsys.readouterr().out)

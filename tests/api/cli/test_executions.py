"""`flow-nexus executions logs`: the output of code in the background, as text or as events."""

import json

import pytest

from tests.api.cli.fake_api import EXECUTION, ApiRequest, FakeApi, run

OUTPUT = (
    b'id: 3000000000\nevent: output\ndata: {"stream":"stdout","text":"42\\n"}\n\n'
    b'id: 3000000004\nevent: output\ndata: {"stream":"stderr","text":"bad\\n"}\n\n'
)
END = b'id: 3000000004\nevent: execution.completed\ndata: {"status":"completed","exit_code":0}\n\n'
EVENTS = "GET /v1/executions/exec_1/events"


def stream(*parts: bytes) -> tuple[int, dict[str, str], bytes]:
    return 200, {"Content-Type": "text/event-stream"}, b"".join(parts)


def test_text_goes_to_the_stream_that_it_came_from(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    api.answers[EVENTS] = stream(OUTPUT, END)
    assert run("executions", "logs", "exec_1", "--follow", "--format", "table") == 0
    assert capsys.readouterr() == ("42\n", "bad\n")


def test_without_follow_the_output_so_far_is_asked_for(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    api.answers[EVENTS] = stream(OUTPUT)
    api.answers["GET /v1/executions/exec_1"] = {**EXECUTION, "status": "running", "exit_code": None}
    assert run("executions", "logs", "exec_1", "--format", "json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["data"]["text"] for line in lines] == ["42\n", "bad\n"]
    (request,) = [request for request in api.requests if request.path.endswith("/events")]
    assert request.query == {"follow": "false"}


def test_a_broken_stream_is_continued_after_the_last_event(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[str | None] = []

    def events(request: ApiRequest) -> tuple[int, dict[str, str], bytes]:
        seen.append(request.headers.get("last-event-id"))
        return stream(OUTPUT) if len(seen) == 1 else stream(END)

    def status(_request: ApiRequest) -> object:
        return {**EXECUTION, "status": "running"} if len(seen) == 1 else EXECUTION

    api.answers |= {EVENTS: events, "GET /v1/executions/exec_1": status}
    assert run("executions", "logs", "exec_1", "--follow", "--format", "table") == 0
    assert seen == [None, "3000000004"]
    assert capsys.readouterr().out == "42\n"


@pytest.mark.parametrize(
    "end", [{"exit_code": 3}, {"exit_code": None, "limit": "timeout"}, {"status": "cancelled", "exit_code": None}]
)
def test_followed_code_that_fails_ends_with_1(api: FakeApi, end: dict[str, object], capsys: pytest.CaptureFixture[str]) -> None:
    execution = {**EXECUTION, **end}
    api.answers[EVENTS] = stream(OUTPUT, f"id: 1\nevent: execution.{execution['status']}\ndata: {{}}\n\n".encode())
    api.answers["GET /v1/executions/exec_1"] = execution
    assert run("executions", "logs", "exec_1", "--follow", "--format", "table") == 1
    assert f"exit code {end['exit_code']}" in capsys.readouterr().err

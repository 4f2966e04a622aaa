import json
from collections.abc import Callable, Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.cli.http.sse import Event, parse
from tests.api.cli.fake_api import ANSWERS, ApiRequest, FakeApi, run

STREAM = (
    b'\xef\xbb\xbf: hello\n\nid: 1\nevent: round.started\ndata: {"round": 1}\n\n'
    b"id: 2\r\ndata: first\r\ndata: second \xe2\x80\xa8 third\r\n\r\n"
    b":\n\ndata\n\nevent: odd\n\nid: 3\ndata:no space\n\ndata: cut off"
)
EVENTS = [
    None,
    Event("1", "round.started", '{"round": 1}'),
    Event("2", "message", "first\nsecond \u2028 third"),
    None,
    Event("2", "message", ""),
    Event("3", "message", "no space"),
]


def parsed(chunks: Iterable[bytes]) -> list[Event | None]:
    return list(parse(chunks))


def test_events_comments_and_identifiers() -> None:
    assert parsed([STREAM]) == EVENTS


@given(st.lists(st.integers(0, len(STREAM)), max_size=30))
def test_where_the_chunks_are_cut_changes_nothing(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    assert parsed(STREAM[start:end] for start, end in pairwise(edges)) == EVENTS
    assert parsed(bytes([byte]) for byte in STREAM) == EVENTS


@given(st.binary(max_size=200))
def test_no_bytes_break_the_parser(noise: bytes) -> None:
    assert all(event is None or isinstance(event, Event) for event in parse([noise, b"\n\n"]))


@given(st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"])))
def test_data_comes_back_as_it_was_sent(text: str) -> None:
    assert parsed([f"data: {text}\n\n".encode()]) == [Event(None, "message", text)]


def frame(number: int, name: str, **data: object) -> bytes:
    return f"id: {number}\nevent: {name}\ndata: {json.dumps(data)}\n\n".encode()


def streaming(parts: list[bytes]) -> Callable[[ApiRequest], tuple[int, dict[str, str], bytes]]:
    """Return an answer: each connection gets the next part and is closed."""
    return lambda _request: (200, {"Content-Type": "text/event-stream"}, parts.pop(0))


def test_a_training_is_followed_across_a_broken_connection(
    api: FakeApi, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.cli.output.watch._RECONNECT_S", 0.01)
    first = frame(1, "round.completed", round=1) + frame(2, "round.completed", round=2)[:-5]
    second = frame(2, "round.completed", round=2) + frame(3, "training.completed")
    api.answers["GET /v1/trainings/train_1/events"] = streaming([first, second])
    training = ANSWERS["GET /v1/trainings/train_1"]
    states = iter(["training", "training", "completed"])
    api.answers["GET /v1/trainings/train_1"] = lambda _request: {**training, "status": next(states)}
    assert run("neural", "train", "watch", "--training-id", "train_1") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["id"] for line in lines] == ["1", "2", "3"]
    streams = [request for request in api.requests if request.path.endswith("/events")]
    assert ["last-event-id" in request.headers for request in streams] == [False, True]
    assert streams[1].headers["last-event-id"] == "1"


def test_following_a_training_that_fails_exits_with_1(api: FakeApi) -> None:
    api.answers["GET /v1/trainings/train_1/events"] = streaming([frame(1, "training.failed")])
    api.answers["GET /v1/trainings/train_1"] = {**ANSWERS["GET /v1/trainings/train_1"], "status": "failed"}
    assert run("neural", "train", "watch", "--training-id", "train_1") == 1

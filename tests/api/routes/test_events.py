"""Event streams: every event once and in order, from the client's position to the end."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from pydantic import TypeAdapter
from sqlalchemy import func, select, text

from api.domain.events import EventType
from api.routes import events as routes
from api.runtime.listener import NAME
from api.schemas.events.union import ClusterEvent
from api.store import events
from api.store.database import Database
from tests.api.routes.conftest import MakeUser
from tests.api.routes.user import User, held_requests, problem

END = "cluster.terminated"


def parse(lines: Iterator[str]) -> Iterator[dict[str, str]]:
    event: dict[str, str] = {}
    for line in lines:
        if not line:
            if event:
                yield event
            event = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(": ")
            event[name] = value


@contextmanager
def stream(user: User, path: str, **options: Any) -> Iterator[Iterator[dict[str, str]]]:
    with httpx.stream(
        "GET", f"{user.http.base_url}{path}", headers={**user.http.headers, **options.pop("headers", {})}, timeout=30, **options
    ) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield parse(answer.iter_lines())


def numbers(stream_events: list[dict[str, str]]) -> list[int]:
    return [int(event["id"]) for event in stream_events]


def emit(rows: Database, cluster_id: str, count: int, event_type: EventType = EventType.CLUSTER_IDLE_WARNING) -> None:
    for number in range(count):
        with rows.unit_of_work() as uow:
            events.emit(uow.session, cluster_id, event_type, {"number": number})


def everything(user: User, cluster_id: str, **params: Any) -> list[dict[str, str]]:
    with stream(user, f"/v1/clusters/{cluster_id}/events", params={"follow": "false", **params}) as stream_events:
        return list(stream_events)


def listening(rows: Database) -> set[int]:
    """Return Postgres's process ids of the listening connections."""
    query = text("SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = :name")
    with rows.unit_of_work() as uow:
        return set(uow.session.scalars(query, {"name": NAME}))


def test_what_has_happened_is_told_in_order(user: User) -> None:
    cluster_id = user.ready()
    stream_events = everything(user, cluster_id)
    assert numbers(stream_events) == list(range(1, len(stream_events) + 1))
    assert [event["event"] for event in stream_events] == [
        "cluster.initializing",
        "node.provisioning",
        "node.running",
        "node.provisioning",
        "node.running",
        "cluster.connected",
    ]
    data = json.loads(stream_events[2]["data"])
    assert data["time"].endswith("Z")
    assert data["status"] == "running"
    assert data["training_id"] is None


@pytest.mark.parametrize("by_header", [True, False])
def test_a_client_goes_on_where_it_got_to(user: User, by_header: bool) -> None:
    cluster_id = user.ready()
    options: dict[str, Any] = {"headers": {"Last-Event-ID": "4"}} if by_header else {"params": {"after": 4}}
    with stream(user, f"/v1/clusters/{cluster_id}/events", **options) as stream_events:
        assert [int(next(stream_events)["id"]) for _ in range(2)] == [5, 6]
        emit(user.rows, cluster_id, 1)
        assert int(next(stream_events)["id"]) == 7


def test_more_events_than_one_reading_holds(user: User) -> None:
    cluster_id = user.cluster()
    with user.rows.unit_of_work() as uow:
        for number in range(1100):
            events.emit(uow.session, cluster_id, EventType.CLUSTER_IDLE_WARNING, {"number": number})
    assert numbers(everything(user, cluster_id)) == list(range(1, 1102))


def test_none_is_lost_or_doubled_while_many_write(user: User) -> None:
    cluster_id = user.cluster()
    writers = [threading.Thread(target=emit, args=(user.rows, cluster_id, 100)) for _ in range(4)]
    with stream(user, f"/v1/clusters/{cluster_id}/events") as stream_events:
        for writer in writers:
            writer.start()
        read = [next(stream_events) for _ in range(401)]
        for writer in writers:
            writer.join()
        emit(user.rows, cluster_id, 1, EventType.CLUSTER_BUDGET_WARNING)
        read.append(next(stream_events))
    assert numbers(read) == list(range(1, 403))
    assert read[-1]["event"] == EventType.CLUSTER_BUDGET_WARNING


def test_a_trainings_stream_ends_with_it(user: User) -> None:
    training_id = user.training(user.ready())
    with stream(user, f"/v1/trainings/{training_id}/events") as stream_events:
        assert next(stream_events)["event"] == "training.pending"
        user.training_becomes(training_id, "training")
        assert next(stream_events)["event"] == "training.training"
        user.training_becomes(training_id, "completed")
        rest = list(stream_events)
    assert [event["event"] for event in rest] == ["training.completed"]
    assert json.loads(rest[0]["data"])["training_id"] == training_id
    with stream(user, f"/v1/trainings/{training_id}/events") as stream_events:
        assert [event["event"] for event in stream_events] == ["training.pending", "training.training", "training.completed"]


def test_a_clusters_stream_ends_when_it_is_terminated(user: User) -> None:
    cluster_id = user.cluster()
    with stream(user, f"/v1/clusters/{cluster_id}/events") as stream_events:
        assert next(stream_events)["event"] == "cluster.initializing"
        user.call("POST", f"/v1/clusters/{cluster_id}/terminate", 202)
        user.cluster_ends(cluster_id)
        assert [event["event"] for event in stream_events] == ["cluster.terminating", END]


def test_a_stream_outlives_the_connection_that_listens(user: User) -> None:
    cluster_id = user.cluster()
    with stream(user, f"/v1/clusters/{cluster_id}/events") as stream_events:
        next(stream_events)
        (old,) = listening(user.rows)
        with user.rows.unit_of_work() as uow:
            uow.session.execute(select(func.pg_terminate_backend(old)))
        emit(user.rows, cluster_id, 3)
        assert [int(next(stream_events)["id"]) for _ in range(3)] == [2, 3, 4]
        end = time.monotonic() + 20
        while not listening(user.rows) - {old}:
            assert time.monotonic() < end, "the server does not listen again"
            time.sleep(0.05)
        emit(user.rows, cluster_id, 1)
        assert int(next(stream_events)["id"]) == 5


def test_a_silent_stream_shows_that_it_lives(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "_KEEP_ALIVE_S", 0.1)
    with user.http.stream("GET", f"/v1/clusters/{user.cluster()}/events") as answer:
        comments = (line for line in answer.iter_lines() if line.startswith(":"))
        assert [next(comments) for _ in range(3)]


def test_streams_are_counted_and_given_back(user: User, url: str) -> None:
    """The server of these tests allows five streams."""
    path = f"/v1/clusters/{user.cluster()}/events"
    for _ in range(3):
        answers = [user.http.stream("GET", path) for _ in range(5)]
        opened = [answer.__enter__() for answer in answers]
        assert [answer.status_code for answer in opened] == [200] * 5
        sixth = user.http.get(path)
        assert problem(sixth, 503)["code"] == "too_many_streams"
        assert int(sixth.headers["retry-after"]) > 0
        for answer in answers:
            answer.__exit__(None, None, None)
        end = time.monotonic() + 20
        while held_requests(url):
            assert time.monotonic() < end, "a stream outlives its client"
            time.sleep(0.05)


@pytest.mark.parametrize(("name", "value"), [("after", "-1"), ("after", "x"), ("after", str(2**63)), ("follow", "maybe")])
def test_wrong_places_to_go_on_from(user: User, name: str, value: str) -> None:
    path = f"/v1/clusters/{user.cluster()}/events"
    assert user.refused("GET", path, 422, params={name: value})["errors"][0]["pointer"] == f"/{name}"
    user.refused("GET", path, 422, headers={"Last-Event-ID": "x"})


def pages(user: User, path: str, **params: Any) -> list[dict[str, Any]]:
    """Return the events of all pages."""
    found: list[dict[str, Any]] = []
    after = int(params.pop("after", 0))
    while True:
        page = user.call("GET", f"{path}/events/page", 200, params={**params, "after": after})
        found += page["items"]
        if not page["items"]:
            return found
        assert page["next_after"] == page["items"][-1]["id"] > after
        after = page["next_after"]


@pytest.mark.parametrize("limit", [1, 4, 1000])
def test_pages_have_the_events_of_the_stream(user: User, limit: int) -> None:
    cluster_id = user.ready()
    paged = pages(user, f"/v1/clusters/{cluster_id}", limit=limit)
    assert paged == [json.loads(event["data"]) for event in everything(user, cluster_id)]
    assert [event["id"] for event in paged] == list(range(1, len(paged) + 1))
    for event in paged:
        assert event["cluster_id"] == cluster_id
        TypeAdapter(ClusterEvent).validate_python(event)


def test_pages_of_a_training_have_its_own_events(user: User) -> None:
    training_id = user.training(user.ready())
    user.training_becomes(training_id, "training")
    found = pages(user, f"/v1/trainings/{training_id}")
    assert [event["type"] for event in found] == ["training.pending", "training.training"]
    assert {event["training_id"] for event in found} == {training_id}


def test_only_the_types_that_were_asked_for(user: User) -> None:
    cluster_id = user.ready()
    types = "node.running, cluster.*"
    wanted = ["cluster.initializing", "node.running", "node.running", "cluster.connected"]
    assert [event["type"] for event in pages(user, f"/v1/clusters/{cluster_id}", types=types, limit=3)] == wanted
    assert [event["event"] for event in everything(user, cluster_id, types=types)] == wanted


@pytest.mark.parametrize("types", ["round", "round.painted", "cluster.*,*", "Node.running"])
def test_a_type_that_does_not_exist_is_refused(user: User, types: str) -> None:
    for path in ("events/page", "events"):
        body = user.refused("GET", f"/v1/clusters/{user.cluster()}/{path}", 422, params={"types": types})
        assert body["errors"][0]["pointer"] == "/types"
        assert "EventType" in body["detail"]


def test_a_new_event_changes_the_page_of_a_client_that_asks_again(user: User) -> None:
    cluster_id = user.cluster()
    path = f"/v1/clusters/{cluster_id}/events/page"
    first = user.http.get(path)
    assert user.http.get(path, headers={"If-None-Match": first.headers["etag"]}).status_code == 304
    user.call("POST", f"/v1/clusters/{cluster_id}/terminate", 202)
    again = user.http.get(path, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, len(again.json()["items"])) == (200, 2)


def test_pages_of_another_project_do_not_exist(user: User, make_user: MakeUser) -> None:
    stranger = make_user()
    for path in (f"/v1/clusters/{user.cluster()}", f"/v1/trainings/{user.training(user.ready())}"):
        stranger.refused("GET", f"{path}/events/page", 404)

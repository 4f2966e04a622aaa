"""Reads: ETags, kept answers, and one transaction for equal requests of the same moment."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, event

from api.services import progress
from api.settings import Settings
from api.store import transitions
from api.store.tables import ClusterRow, NodeRow, TrainingRow
from tests.api.routes.conftest import MakeUser
from tests.api.routes.user import CLUSTER, TRAINING, User


@pytest.fixture(scope="module")
def cluster_id(user: User) -> str:
    """Return a cluster with a training that has completed two rounds. Nothing in it costs."""
    cluster_id = user.ready()
    training_id = user.training(cluster_id)
    user.round_done(training_id, 1)
    user.round_done(training_id, 2)
    with user.rows.unit_of_work() as uow:
        row = uow.session.get_one(TrainingRow, training_id)
        for status in ("training", "completed"):
            transitions.move(uow.session, row, status)
    return cluster_id


@pytest.fixture(scope="module")
def paths(user: User, cluster_id: str) -> list[str]:
    training_id = user.newest_training(cluster_id)
    return [
        f"/v1/clusters/{cluster_id}/status",
        f"/v1/clusters/{cluster_id}",
        f"/v1/clusters/{cluster_id}/connections",
        "/v1/clusters",
        f"/v1/trainings?cluster_id={cluster_id}",
        f"/v1/trainings/{training_id}",
        f"/v1/trainings/{training_id}/rounds",
    ]


@contextmanager
def transactions(settings: Settings) -> Iterator[list[str]]:
    """Collect the transactions that this process begins on the server's database."""
    begun: list[str] = []

    def note(connection: Any) -> None:
        if connection.engine.url.render_as_string(hide_password=False) == settings.database_url:
            begun.append("begin")

    event.listen(Engine, "begin", note)
    try:
        yield begun
    finally:
        event.remove(Engine, "begin", note)


def test_an_unchanged_answer_is_a_304(user: User, paths: list[str]) -> None:
    for path in paths:
        answer = user.http.get(path)
        assert answer.status_code == 200, answer.text
        tag = answer.headers["etag"]
        assert tag.startswith('"'), "it is strong: a hash of the body"
        for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
            again = user.http.get(path, headers={"If-None-Match": known})
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag), f"{path} {known}"
            assert "content-type" not in again.headers
        for unknown in ('"other"', tag.strip('"'), "", "W/*"):
            again = user.http.get(path, headers={"If-None-Match": unknown})
            assert (again.status_code, again.content) == (200, answer.content), f"{path} {unknown}"


def test_any_change_is_a_new_answer(user: User) -> None:
    cluster_id = user.ready()
    path = f"/v1/clusters/{cluster_id}/status"
    tag = user.http.get(path).headers["etag"]
    training_id = user.training(cluster_id)
    changed = user.http.get(path, headers={"If-None-Match": tag})
    assert changed.status_code == 200
    rounds = f"/v1/trainings/{training_id}/rounds"
    tags = [user.http.get(path).headers["etag"] for path in (f"/v1/trainings/{training_id}", rounds)]
    user.round_done(training_id, 1)
    assert user.http.get(f"/v1/trainings/{training_id}", headers={"If-None-Match": tags[0]}).status_code == 200
    assert user.http.get(rounds, headers={"If-None-Match": tags[1]}).status_code == 200


def test_a_cost_that_grows_is_never_a_304(user: User) -> None:
    cluster_id = user.ready()
    with user.rows.unit_of_work() as uow:
        for row in uow.session.query(NodeRow).filter(NodeRow.cluster_id == cluster_id):
            row.started_at = row.created_at
    path = f"/v1/clusters/{cluster_id}/status"
    end = time.monotonic() + 3
    seen: dict[str, float] = {}
    tag, answers = "", []
    while time.monotonic() < end:
        answer = user.http.get(path, headers={"If-None-Match": tag})
        answers.append(answer.status_code)
        if answer.status_code == 200:
            assert answer.headers["etag"] not in seen
            tag = answer.headers["etag"]
            seen[tag] = answer.json()["cost_usd"]
        time.sleep(0.02)
    assert 3 <= len(seen) <= 5, "a new answer each second"
    assert list(seen.values()) == sorted(set(seen.values()))
    assert answers.count(304) > len(seen)


def test_who_may_not_read_gets_no_304(make_user: MakeUser, user: User, paths: list[str]) -> None:
    stranger = make_user()
    blind = user.holding(make_user(project=user.project, scopes=frozenset({"models:read"})).secret)
    for path in [path for path in paths if path != "/v1/clusters"]:
        assert stranger.http.get(path, headers={"If-None-Match": "*"}).status_code == 404
        assert blind.http.get(path, headers={"If-None-Match": "*"}).status_code == 403
        assert httpx.get(f"{user.http.base_url}{path}", headers={"If-None-Match": "*"}).status_code == 401
    tag = user.http.get("/v1/clusters").headers["etag"]
    assert stranger.http.get("/v1/clusters", headers={"If-None-Match": tag}).status_code == 200


def test_a_request_has_at_most_one_transaction(user: User, settings: Settings, paths: list[str]) -> None:
    cluster_id = user.ready()
    user.call("GET", "/v1/clusters", 200)
    time.sleep(0.5)  # The use of the key is written once a minute, beside the requests.
    requests: list[tuple[str, str, dict[str, Any]]] = [("GET", path, {}) for path in paths]
    requests += [
        ("POST", "/v1/clusters", {"json": CLUSTER}),
        ("GET", f"/v1/clusters/{cluster_id}/nodes", {}),
        ("POST", f"/v1/clusters/{cluster_id}/nodes", {"json": {}}),
        ("POST", f"/v1/clusters/{cluster_id}/terminate", {}),
        ("GET", "/v1/models", {}),
        ("GET", "/v1/searches", {}),
    ]
    with transactions(settings) as begun:

        def cost(method: str, path: str, options: dict[str, Any]) -> int:
            before = len(begun)
            assert user.http.request(method, path, **options).is_success
            return len(begun) - before

        for request in requests:
            # After ten seconds the key is looked up once more.
            assert cost(*request) <= 1 or cost(*request) <= 1, request[:2]


def test_an_unchanged_answer_is_not_read_again(user: User, settings: Settings, paths: list[str]) -> None:
    """A status is kept for the rest of a second, the others for ten."""
    with transactions(settings) as begun:
        for path in paths:
            answers = []
            for _ in range(40):
                answers.append(user.http.get(path).content)
                time.sleep(0.01)
            assert len(set(answers)) == 1
            # A status is read again in each second, also on a slow machine.
            assert len(begun) < 20, path
            begun.clear()


def test_each_change_is_in_the_next_answer(user: User) -> None:
    cluster_id = user.ready()
    training_id = user.training(cluster_id)
    rounds, one = f"/v1/trainings/{training_id}/rounds", f"/v1/trainings/{training_id}"
    listed = f"/v1/trainings?cluster_id={cluster_id}"
    for number in range(1, 5):
        user.round_done(training_id, number)
        assert [item["round"] for item in user.call("GET", rounds, 200)["items"]] == list(range(1, number + 1))
        shown = user.call("GET", one, 200)
        assert (shown["completed_rounds"], shown["epoch"], shown["total_epochs"]) == (number, number, TRAINING["epochs"])
        assert user.call("GET", listed, 200)["items"][0]["completed_rounds"] == number
        assert user.call("GET", f"/v1/clusters/{cluster_id}/status", 200)["training_sessions"][0]["epoch"] == number
    assert user.call("GET", "/v1/clusters", 200)["items"][0]["cluster_id"] == cluster_id
    newer = user.cluster()
    assert user.call("GET", "/v1/clusters", 200)["items"][0]["cluster_id"] == newer
    assert user.call("GET", f"/v1/clusters/{cluster_id}", 200)["status"] != "terminated"
    user.call("POST", f"/v1/clusters/{cluster_id}/terminate", 202)
    assert user.call("GET", f"/v1/clusters/{cluster_id}", 200)["status"] in ("terminating", "terminated")


def test_equal_requests_of_one_moment_are_answered_once(
    user: User, make_user: MakeUser, cluster_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"/v1/clusters/{cluster_id}/status"
    calls = []
    original = progress.cluster_status

    def slow(session: Any, project_id: str, asked: str) -> progress.ClusterStatusView:
        calls.append(project_id)
        time.sleep(0.3)
        return original(session, project_id, asked)

    with user.rows.unit_of_work() as uow:  # A change, so that no answer is known.
        uow.session.get_one(ClusterRow, cluster_id).name = "changed"
    monkeypatch.setattr(progress, "cluster_status", slow)
    others = [user, make_user(project=user.project, scopes=frozenset({"clusters:read"})), make_user()]
    with ThreadPoolExecutor(30) as pool:
        answers = list(pool.map(lambda number: others[number % 3].http.get(path), range(30)))
    assert [answer.status_code for answer in answers] == [200, 200, 404] * 10
    assert len({answer.content for answer in answers[0::3]}) <= 2
    assert 3 <= len(calls) <= 9, "each kind of caller has answers of its own, and shares them"


def test_a_reader_sees_what_was_done_before_it_asked(user: User) -> None:
    """Readers crowd in all the time. No answer to the writer is older than its change."""
    cluster_id = user.cluster()
    path = f"/v1/clusters/{cluster_id}/status"
    running = True

    def read() -> None:
        while running:
            user.http.get(path)

    with ThreadPoolExecutor(8) as pool:
        crowd = [pool.submit(read) for _ in range(8)]
        for count in range(1, 11):
            user.deploy(cluster_id)
            assert len(user.call("GET", path, 200)["nodes"]) == count
        running = False
        for reader in crowd:
            reader.result()


def test_a_write_is_not_shared(user: User) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: user.http.post("/v1/clusters", json=CLUSTER), range(8)))
    assert len({answer.json()["cluster_id"] for answer in answers}) == 8

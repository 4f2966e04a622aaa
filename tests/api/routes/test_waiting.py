"""Held answers: until the work is done or the time is over, without a thread."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from api.main import create_app
from tests.api.routes.conftest import make_settings, serving
from tests.api.routes.user import CLUSTER, TRAINING, User, held_requests


def wait(seconds: object) -> dict[str, str]:
    return {"Prefer": f"wait={seconds}"}


def only_node(user: User, cluster_id: str) -> str:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        items = user.call("GET", f"/v1/clusters/{cluster_id}/nodes", 200)["items"]
        if items:
            return str(items[0]["node_id"])
        time.sleep(0.02)
    raise AssertionError("no node was made")


def test_slow_work_answers_at_once_with_its_place(user: User) -> None:
    answer = user.http.post(f"/v1/clusters/{user.cluster()}/nodes", json={})
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/v1/nodes/{answer.json()['node_id']}"
    assert answer.json()["status"] == "provisioning"
    assert "preference-applied" not in answer.headers
    assert user.call("GET", answer.headers["location"], 200) == answer.json()


def test_an_answer_is_held_until_the_node_runs(user: User) -> None:
    cluster_id = user.cluster()
    with ThreadPoolExecutor(1) as other:
        held = other.submit(user.http.post, f"/v1/clusters/{cluster_id}/nodes", json={}, headers=wait(50))
        user.node_runs(only_node(user, cluster_id))
        answer = held.result()
    assert (answer.status_code, answer.json()["status"]) == (200, "running")
    assert answer.json()["resources"] == {"cpu_cores": 2, "memory_gb": 1.5, "gpu": None}
    assert answer.headers["preference-applied"] == "wait=50"


def test_an_answer_is_given_when_the_time_is_over(user: User) -> None:
    answer = user.http.post(f"/v1/clusters/{user.cluster()}/nodes", json={}, headers=wait(1))
    assert (answer.status_code, answer.json()["status"]) == (202, "provisioning")


@pytest.mark.parametrize("preference", ["", "wait", "wait=", "wait=-1", "wait=soon", "wait=1.5", "awaits=9", "respond-async"])
def test_a_preference_that_makes_no_sense_is_ignored(user: User, preference: str) -> None:
    answer = user.http.post(f"/v1/clusters/{user.cluster()}/nodes", json={}, headers={"Prefer": preference})
    assert answer.status_code == 202
    assert "preference-applied" not in answer.headers


@pytest.mark.parametrize(
    "preference", ["respond-async, wait=1", 'wait="1"', "WAIT = 1", "wait=1; foo=bar", "handling=lenient;wait=1"]
)
def test_the_forms_of_a_preference(user: User, preference: str) -> None:
    path = f"/v1/clusters/{user.cluster()}/nodes"
    assert user.http.post(path, json={}, headers={"Prefer": preference}).headers.get("preference-applied") == (
        None if preference.startswith("handling") else "wait=1"
    )


def test_several_prefer_headers_count_as_one(user: User) -> None:
    path = f"/v1/clusters/{user.cluster()}/nodes"
    for headers in ([("Prefer", "respond-async"), ("Prefer", "wait=1")], [("Prefer", "wait=1"), ("Prefer", "handling=strict")]):
        assert user.http.post(path, json={}, headers=headers).headers["preference-applied"] == "wait=1"


def test_no_preference_holds_longer_than_five_minutes(user: User) -> None:
    cluster_id = user.cluster()
    user.call("POST", f"/v1/clusters/{cluster_id}/terminate", 202)
    user.cluster_ends(cluster_id)
    answer = user.http.post(f"/v1/clusters/{cluster_id}/terminate", headers=wait(999999))
    assert answer.headers["preference-applied"] == "wait=300"
    assert (answer.status_code, answer.json()["status"]) == (200, "terminated")


def test_a_training_is_answered_once_its_data_was_looked_at(user: User) -> None:
    cluster_id = user.ready()
    with ThreadPoolExecutor(1) as other:
        held = other.submit(user.http.post, f"/v1/clusters/{cluster_id}/trainings", json=TRAINING)
        training_id = user.newest_training(cluster_id)
        user.training_becomes(training_id, "training")
        answer = held.result()
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/v1/trainings/{training_id}"
    assert answer.json()["status"] == "training"
    assert user.refused("POST", f"/v1/clusters/{cluster_id}/trainings", 409, json=TRAINING)["code"] == "training_active"


@pytest.mark.parametrize("status", [409, 422])
def test_a_training_that_is_refused_is_a_problem(user: User, status: int) -> None:
    cluster_id = user.ready()
    error: dict[str, Any] = {"status": status, "code": "labels_differ", "detail": "node_w2 has other labels than node_w1"}
    with ThreadPoolExecutor(1) as other:
        held = other.submit(user.refused, "POST", f"/v1/clusters/{cluster_id}/trainings", status, json=TRAINING)
        user.training_becomes(user.newest_training(cluster_id), "refused", error)
        body = held.result()
    assert (body["code"], body["detail"]) == (error["code"], error["detail"])
    user.training(cluster_id)


def test_a_prediction_is_200_when_it_is_done_in_time(user: User) -> None:
    cluster_id = user.ready()
    training_id = user.training(cluster_id)
    path = f"/v1/clusters/{cluster_id}/predictions"
    assert user.refused("POST", path, 409, json={"inputs": ["a"]})["code"] == "no_model"
    user.training_becomes(training_id, "training")
    user.round_done(training_id, 1)
    pending = user.http.post(path, json={"inputs": ["a"]})
    assert (pending.status_code, pending.json()["results"]) == (202, None)
    prediction_id = pending.json()["prediction_id"]
    with ThreadPoolExecutor(1) as other:
        held = other.submit(user.http.post, path, json={"inputs": ["b"]}, headers=wait(50))
        user.prediction_done(cluster_id, besides=prediction_id)
        answer = held.result()
    assert answer.status_code == 200
    assert answer.json()["results"]["predictions"] == [{"text": "b", "sentiment": "positive", "confidence": 0.9}]
    assert answer.json()["inference_time"] == "1.25s"
    assert user.call("GET", f"/v1/predictions/{answer.json()['prediction_id']}", 200) == answer.json()


def test_who_waits_holds_no_thread_and_no_session(user: User) -> None:
    """64 requests wait with a pool of 4 connections. Other requests are served meanwhile."""
    cluster_id = user.cluster()
    held: list[int] = []

    def hold() -> None:
        answer = httpx.post(
            f"{user.http.base_url}/v1/clusters/{cluster_id}/nodes",
            json={},
            headers={"Authorization": f"Bearer {user.secret}", **wait(40)},
            timeout=60,
        )
        held.append(answer.status_code)

    waiting = [threading.Thread(target=hold) for _ in range(64)]
    for thread in waiting:
        thread.start()
    nodes: set[str] = set()
    while len(nodes) < 64:
        nodes |= set(user.nodes(cluster_id))
    assert held == []
    user.cluster()
    for node_id in nodes:
        user.node_runs(node_id)
    for thread in waiting:
        thread.join(timeout=60)
    assert held == [200] * 64


def test_a_crowd_on_a_small_pool_is_all_served(user: User) -> None:
    def work(number: int) -> int:
        return user.http.post("/v1/clusters", json={**CLUSTER, "name": f"crowd {number}"}).status_code

    with ThreadPoolExecutor(64) as crowd:
        assert list(crowd.map(work, range(256))) == [201] * 256


def test_a_crowd_waits_longer_than_the_pool_would_let_it(user: User, postgres_url: str, tmp_path: Path) -> None:
    """64 transactions of 0.2 s use two connections. The pool waits at most three seconds."""
    with user.rows.unit_of_work() as uow:
        uow.session.execute(
            text(
                """
                CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN PERFORM pg_sleep(0.2); RETURN NEW; END $$;
                CREATE TRIGGER linger BEFORE INSERT ON clusters
                FOR EACH ROW WHEN (NEW.name = 'slow') EXECUTE FUNCTION linger();
                """
            )
        )
    settings = make_settings(postgres_url, tmp_path, database_pool_size=2, database_statement_timeout_s=3)
    with (
        serving(create_app(settings)) as base,
        httpx.Client(base_url=base, headers=user.http.headers, timeout=60) as http,
        ThreadPoolExecutor(64) as crowd,
    ):
        found = list(crowd.map(lambda _: http.post("/v1/clusters", json={"name": "slow"}).status_code, range(64)))
    assert found == [201] * 64


def test_a_client_that_leaves_is_not_waited_for(user: User, url: str) -> None:
    """The started work continues. Only the waiting ends."""
    cluster_id = user.cluster()
    with httpx.Client(base_url=url, headers=user.http.headers) as hasty, pytest.raises(httpx.ReadTimeout):
        hasty.post(f"/v1/clusters/{cluster_id}/nodes", json={}, headers=wait(250), timeout=1)
    assert user.call("GET", f"/v1/nodes/{only_node(user, cluster_id)}", 200)["status"] == "provisioning"
    end = time.monotonic() + 30
    while held_requests(url):
        assert time.monotonic() < end, "the server still waits for a client that has left"
        time.sleep(0.1)

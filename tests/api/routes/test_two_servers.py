"""Two API processes on one database: the same request to both is done once."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.api.routes.conftest import NOWHERE, MakeUser
from tests.api.routes.user import CLUSTER, TRAINING, User


@pytest.fixture(scope="module")
def servers(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Yield the base URLs of two processes."""
    environment = {
        **os.environ,
        "FLOW_NEXUS_DATABASE_URL": postgres_url,
        "FLOW_NEXUS_REDIS_URL": f"redis://{NOWHERE}/0",
        "FLOW_NEXUS_SECRET_KEY": "s" * 32,
        "FLOW_NEXUS_MODELS_DIR": str(tmp_path_factory.mktemp("models")),
        "FLOW_NEXUS_TRAINING_CHECK_WAIT_S": "0.5",
        "FLOW_NEXUS_DATABASE_POOL_SIZE": "4",
        "E2B_API_KEY": "e2b_0",
        "E2B_API_URL": f"http://{NOWHERE}",
        "E2B_SANDBOX_URL": f"http://{NOWHERE}",
    }
    started = []
    for _ in range(2):
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = str(probe.getsockname()[1])
        command = [sys.executable, "-m", "uvicorn", "api.main:create_app_from_env", "--factory", "--port", port]
        started.append((subprocess.Popen([*command, "--log-level", "error"], env=environment), f"http://127.0.0.1:{port}"))
    try:
        for process, url in started:
            end = time.monotonic() + 60
            while not _answers(url):
                assert process.poll() is None
                assert time.monotonic() < end
                time.sleep(0.05)
        yield [url for _, url in started]
    finally:
        for process, _ in started:
            process.terminate()
        asked = time.monotonic()
        # uvicorn closes everything and then ends by the signal that it got.
        assert {process.wait(20) for process, _ in started} == {-signal.SIGTERM}
        assert time.monotonic() - asked < 10, "SIGTERM drains in seconds"


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", timeout=2).is_success
    except httpx.HTTPError:
        return False


def at_once(user: User, servers: list[str], path: str, body: object, **headers: str) -> list[httpx.Response]:
    """Send the same POST sixteen times, half of them to each server."""

    def post(number: int) -> httpx.Response:
        own = {"Authorization": f"Bearer {user.secret}", **headers}
        return httpx.post(f"{servers[number % 2]}{path}", json=body, headers=own, timeout=60)

    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(post, range(16)))


def test_one_idempotency_key_makes_one_cluster(user: User, servers: list[str]) -> None:
    answers = at_once(user, servers, "/v1/clusters", CLUSTER, **{"Idempotency-Key": "race"})
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["cluster_id"] for answer in answers}) == 1


def test_one_of_many_trainings_starts(user: User, servers: list[str]) -> None:
    cluster_id = user.ready()
    answers = at_once(user, servers, f"/v1/clusters/{cluster_id}/trainings", TRAINING)
    assert Counter(answer.status_code for answer in answers) == {202: 1, 409: 15}


def test_a_cluster_is_terminated_once(user: User, servers: list[str]) -> None:
    cluster_id = user.ready()
    answers = at_once(user, servers, f"/v1/clusters/{cluster_id}/terminate", {})
    assert {answer.status_code for answer in answers} == {202}
    stream = user.http.get(f"/v1/clusters/{cluster_id}/events", params={"follow": "false"}).text
    assert stream.count("event: cluster.terminating") == 1
    assert stream.count("event: node.terminating") == 2


@pytest.mark.parametrize("how", ["revoke", "rotate"])
def test_a_key_that_ends_at_one_server_ends_at_the_other_at_once(make_user: MakeUser, servers: list[str], how: str) -> None:
    admin = make_user(scopes=frozenset({"admin"}))
    for _ in range(10):
        key = admin.key(scopes=["clusters:read"])
        own = {"Authorization": f"Bearer {key['api_key']}"}
        with httpx.Client(base_url=servers[1], headers=own, timeout=60) as other:
            assert [other.get("/v1/clusters").status_code for _ in range(3)] == [200] * 3
            headers = {"Authorization": f"Bearer {admin.secret}"}
            if how == "revoke":
                assert httpx.delete(f"{servers[0]}/v1/keys/{key['key_id']}", headers=headers, timeout=60).is_success
            else:
                path = f"/v1/keys/{key['key_id']}/rotate"
                assert httpx.post(f"{servers[0]}{path}", json={}, headers=headers, timeout=60).is_success
            assert other.get("/v1/clusters").status_code == 401, "the very next request"

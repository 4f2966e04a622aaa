"""Several worker processes on one socket: counts, limits, keys, events, restarts and the end."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import httpx
import psutil  # type: ignore[import-untyped]
import pytest
from prometheus_client.parser import text_string_to_metric_families

from api.domain.scopes import SCOPES
from api.services import keys
from api.settings import Settings
from api.store.database import Database
from tests.api.http.test_ratelimit import redis_server
from tests.api.routes.conftest import NOWHERE, make_settings

QUOTA = 50
SECRET = "s" * 32


class Service:
    """A running `python -m api.serve --workers 2`. Each request has a connection of its own."""

    def __init__(self, process: "subprocess.Popen[bytes]", url: str, secret: str) -> None:
        self.process = process
        self.url = url
        self.secret = secret

    def get(self, path: str, secret: str | None = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {secret or self.secret}", "Connection": "close"}
        return httpx.get(f"{self.url}{path}", headers=headers, timeout=60)

    def workers(self) -> set[int]:
        """Return the process ids of the workers."""
        found = set()
        for child in psutil.Process(self.process.pid).children():
            with suppress(psutil.Error):  # It may have ended meanwhile.
                found |= {child.pid} if "spawn_main" in " ".join(child.cmdline()) else set()
        return found

    def counted(self, name: str, **labels: str) -> float:
        families = text_string_to_metric_families(self.get("/metrics").text)
        samples = [one for family in families for one in family.samples if one.name == name]
        return sum(one.value for one in samples if labels.items() <= one.labels.items())


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.05)


@contextmanager
def serving(
    postgres_url: str, redis_url: str, folder: Path, secret: str, log: Path | None = None, **own: str
) -> Iterator[Service]:
    """Serve with two workers and the settings `own`. Write standard error into `log`, if any."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])
    environment = {
        **os.environ,
        "FLOW_NEXUS_DATABASE_URL": postgres_url,
        "FLOW_NEXUS_REDIS_URL": redis_url,
        "FLOW_NEXUS_SECRET_KEY": SECRET,
        "FLOW_NEXUS_MODELS_DIR": str(folder),
        "FLOW_NEXUS_DATABASE_POOL_SIZE": "4",
        "FLOW_NEXUS_RATE_LIMIT": str(QUOTA),
        "FLOW_NEXUS_RATE_LIMIT_WINDOW_S": "100000",
        "E2B_API_KEY": "e2b_0",
        "E2B_API_URL": f"http://{NOWHERE}",
        "E2B_SANDBOX_URL": f"http://{NOWHERE}",
        **own,
    }
    command = [sys.executable, "-m", "api.serve", "--port", port, "--workers", "2"]
    with log.open("wb") if log else nullcontext() as stderr:
        process = subprocess.Popen(command, env=environment, stderr=stderr)
    service = Service(process, f"http://127.0.0.1:{port}", secret)
    try:
        until(lambda: answers(service) and len(service.workers()) == 2, "the service did not start")
        yield service
    finally:
        process.terminate()
        process.wait(30)


def answers(service: Service) -> bool:
    try:
        return service.get("/healthz").is_success
    except httpx.HTTPError:
        return False


@pytest.fixture(scope="module")
def settings(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return make_settings(postgres_url, tmp_path_factory.mktemp("models"))


@pytest.fixture
def new_key(database: Database, settings: Settings) -> Callable[[], keys.IssuedKey]:
    def make() -> keys.IssuedKey:
        with database.unit_of_work() as uow:
            return keys.create(uow.session, settings, "acme", keys.KeySpec("k", SCOPES))

    return make


@pytest.fixture
def service(postgres_url: str, tmp_path: Path, new_key: Callable[[], keys.IssuedKey]) -> Iterator[Service]:
    with (
        redis_server() as redis_port,
        serving(postgres_url, f"redis://127.0.0.1:{redis_port}/0", tmp_path, new_key().secret) as running,
    ):
        yield running


def test_several_workers_are_one_service(
    service: Service, new_key: Callable[[], keys.IssuedKey], database: Database, settings: Settings
) -> None:
    for _ in range(30):
        assert service.get("/v1/models").status_code == 200
    for _ in range(3):
        assert service.counted("flow_nexus_http_requests_total", operation="list_models") == 30, "those of all workers"
        assert service.counted("flow_nexus_held_requests") == 0
    statuses = [service.get("/v1/models").status_code for _ in range(30)]
    assert (statuses.count(200), statuses.count(429)) == (QUOTA - 30, 60 - QUOTA), "the workers share the bucket"

    ended, rotated = new_key(), new_key()
    assert {service.get("/v1/clusters", key.secret).status_code for key in (ended, rotated) for _ in range(10)} == {200}
    with database.unit_of_work() as uow:
        keys.revoke(uow.session, None, ended.id)
        successor = keys.rotate(uow.session, settings, None, rotated.id, 0)
    assert {service.get("/v1/clusters", key.secret).status_code for key in (ended, rotated) for _ in range(10)} == {401}
    assert {service.get("/v1/clusters", successor.secret).status_code for _ in range(10)} == {200}

    writer = {"Authorization": f"Bearer {new_key().secret}"}
    cluster_id = httpx.post(f"{service.url}/v1/clusters", json={"name": "c"}, headers=writer, timeout=60).json()["cluster_id"]
    with httpx.stream("GET", f"{service.url}/v1/clusters/{cluster_id}/events", headers=writer, timeout=60) as stream:
        lines = stream.iter_lines()
        assert next(lines) == "id: 1"
        assert service.counted("flow_nexus_held_requests") == 1, "a worker's count is shown by each"
        for _ in range(4):
            path = f"{service.url}/v1/clusters/{cluster_id}/nodes"
            assert httpx.post(path, json={}, headers=writer, timeout=60).status_code == 202
        seen = 0
        for line in lines:
            seen += line.startswith("id: ")
            if seen == 4:
                break


def test_a_worker_that_dies_is_replaced_and_its_counts_stay(service: Service) -> None:
    for _ in range(10):
        assert service.get("/v1/models").status_code == 200
    before = service.workers()
    os.kill(min(before), signal.SIGKILL)
    until(lambda: len(service.workers() - before) == 1 and len(service.workers()) == 2, "no new worker")
    until(lambda: answers(service), "it does not answer")
    assert service.counted("flow_nexus_http_requests_total", operation="list_models") == 10


def test_all_workers_end_with_the_service(service: Service) -> None:
    workers = service.workers()
    asked = time.monotonic()
    service.process.terminate()
    service.process.wait(20)
    assert time.monotonic() - asked < 10, "SIGTERM drains in seconds"
    assert not [pid for pid in workers if lives(pid)]


def test_no_worker_outlives_a_parent_that_is_killed(service: Service) -> None:
    workers = service.workers()
    service.process.kill()
    service.process.wait(10)
    until(lambda: not [pid for pid in workers if lives(pid)], "a worker outlived its parent")


def test_all_processes_log_json_with_the_ids_of_the_request(
    postgres_url: str, tmp_path: Path, new_key: Callable[[], keys.IssuedKey]
) -> None:
    log, formatted = tmp_path / "log", {"FLOW_NEXUS_LOG_FORMAT": "json", "FLOW_NEXUS_LOG_LEVEL": "debug"}
    with serving(postgres_url, f"redis://{NOWHERE}/0", tmp_path, new_key().secret, log, **formatted) as running:
        headers = {"Authorization": f"Bearer {running.secret}"}
        cluster_id = httpx.post(f"{running.url}/v1/clusters", json={"name": "c"}, headers=headers).json()["cluster_id"]
        answer = httpx.post(f"{running.url}/v1/clusters/{cluster_id}/nodes", json={}, headers=headers)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    of_request = [line for line in lines if line.get("request_id") == answer.headers["X-Request-Id"]]
    assert {line["cluster_id"] for line in of_request} == {cluster_id}
    (lost,) = [line for line in of_request if "the broker did not take nodes.advance" in line["message"]]
    assert lost["node_id"] == answer.json()["node_id"]
    assert [line for line in of_request if "deploy_node answered 202" in line["message"]]
    assert [line for line in lines if line["message"].startswith("Started parent process")]


def test_every_worker_answers_at_the_port_of_the_metrics(
    postgres_url: str, tmp_path: Path, new_key: Callable[[], keys.IssuedKey]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with serving(
        postgres_url, f"redis://{NOWHERE}/0", tmp_path, new_key().secret, FLOW_NEXUS_METRICS_PORT=str(port)
    ) as service:
        assert service.get("/metrics").status_code == 404
        for _ in range(10):
            answer = httpx.get(f"http://127.0.0.1:{port}/metrics", headers={"Connection": "close"}, timeout=60)
            assert 'flow_nexus_http_requests_total{method="GET",operation="get_health"' in answer.text


@pytest.mark.parametrize("port", ["0", "65536", "-1", "nine"])
def test_a_wrong_port_of_the_metrics_is_refused_in_a_line(port: str) -> None:
    command = [sys.executable, "-m", "api.serve", "--port", "0"]
    environment = {**os.environ, "FLOW_NEXUS_METRICS_PORT": port}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    assert "FLOW_NEXUS_METRICS_PORT" in ended.stderr


def test_the_parent_and_a_starting_worker_import_no_app() -> None:
    """A worker counts as alive once `api.serve` is imported. Else a slow start is a frozen one."""
    program = "import sys, api.serve; print(*{'fastapi', 'pydantic', 'sqlalchemy', 'celery'} & set(sys.modules))"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout.split() == []


@pytest.mark.parametrize("count", ["0", "-1", "65", "two"])
def test_a_wrong_number_of_workers_is_refused_in_a_line(count: str) -> None:
    command = [sys.executable, "-m", "api.serve", f"--workers={count}"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert "--workers" in ended.stderr.splitlines()[-1]

"""The metrics of Celery workers: their port, their token, their names, and a pool of processes."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from celery import Celery
from prometheus_client.parser import text_string_to_metric_families

from api.domain.steps import QUEUE, PeriodicStep, task_name
from api.settings import Settings
from tests.api.http.test_ratelimit import redis_server
from tests.monitoring.promtool import PROMTOOL, findings
from workers import metrics, metrics_server

TOKEN = "mtr_0123456789abcdef"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def make_settings(**fields: Any) -> Settings:
    return Settings(
        **{
            "database_url": "postgresql+psycopg://unused",
            "redis_url": "redis://127.0.0.1:9/0",
            "secret_key": "s" * 32,
            "models_dir": Path("unused"),
            "E2B_API_KEY": "e2b_0",
            **fields,
        }
    )


@contextmanager
def serving(**fields: Any) -> Iterator[str]:
    port = free_port()
    server = metrics_server.start(make_settings(worker_metrics_port=port, **fields))
    assert server is not None
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.shutdown()
        server.server_close()


def test_the_port_serves_metrics_and_nothing_else() -> None:
    before = metrics.NODES_LOST._value.get()
    metrics.NODES_LOST.inc()
    with serving() as url:
        assert f"flow_nexus_nodes_lost_total {before + 1}" in httpx.get(f"{url}/metrics").text
        assert [httpx.get(f"{url}{path}").status_code for path in ("/", "/healthz", "/metrics/")] == [404] * 3


def test_it_needs_the_token_of_the_metrics() -> None:
    with serving(metrics_token=TOKEN) as url:
        for header in ({}, {"Authorization": f"Bearer {TOKEN}x"}, {"Authorization": TOKEN}):
            answer = httpx.get(f"{url}/metrics", headers=header)
            assert (answer.status_code, answer.text) == (401, "")
            assert answer.headers["www-authenticate"].startswith("Bearer")
        assert httpx.get(f"{url}/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200


def test_it_listens_on_an_address_of_ipv6() -> None:
    with serving(metrics_host="::1") as url:
        assert httpx.get(f"{url.replace('127.0.0.1', '[::1]')}/metrics").status_code == 200


def test_without_a_port_nothing_is_served() -> None:
    assert metrics_server.start(make_settings()) is None


def test_a_port_that_is_taken_stops_no_work(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert metrics_server.start(make_settings(worker_metrics_port=taken.getsockname()[1])) is None
    assert "FLOW_NEXUS_WORKER_METRICS_PORT" in caplog.text


@pytest.mark.skipif(PROMTOOL is None, reason="promtool of Debian's package prometheus is not installed")
def test_names_follow_the_conventions_of_prometheus() -> None:
    with serving() as url:
        assert findings(httpx.get(f"{url}/metrics").text) == []


def count_of(url: str, step: PeriodicStep) -> float:
    try:
        families = text_string_to_metric_families(httpx.get(f"{url}/metrics", timeout=10).text)
    except httpx.HTTPError:
        return -1
    samples = (sample for family in families for sample in family.samples)
    name = "flow_nexus_step_duration_seconds_count"
    return sum(one.value for one in samples if one.name == name and one.labels == {"step": step})


def test_all_processes_of_a_pool_are_counted(postgres_url: str, tmp_path: Path) -> None:
    """Each sweep is a task of its own, and two processes share the tasks."""
    folder, port, tasks = tmp_path / "counts", free_port(), 20
    folder.mkdir()
    with redis_server() as redis_port:
        environment = {
            **os.environ,
            "FLOW_NEXUS_DATABASE_URL": postgres_url,
            "FLOW_NEXUS_REDIS_URL": f"redis://127.0.0.1:{redis_port}/0",
            "FLOW_NEXUS_SECRET_KEY": "s" * 32,
            "FLOW_NEXUS_MODELS_DIR": str(tmp_path),
            "FLOW_NEXUS_WORKER_METRICS_PORT": str(port),
            "E2B_API_KEY": "e2b_0",
            "PROMETHEUS_MULTIPROC_DIR": str(folder),
        }
        command = [sys.executable, "-m", "celery", "-A", "workers.app", "worker", "-P", "prefork", "-c", "2", "-Q", QUEUE]
        worker = subprocess.Popen([*command, "--without-gossip", "--without-mingle", "-l", "error"], env=environment)
        try:
            with Celery("sender", broker=environment["FLOW_NEXUS_REDIS_URL"], set_as_current=False) as sender:
                for _ in range(tasks):
                    sender.send_task(task_name(PeriodicStep.SWEEP), queue=QUEUE, ignore_result=True)
            end = time.monotonic() + 60
            while (counted := count_of(f"http://127.0.0.1:{port}", PeriodicStep.SWEEP)) < tasks:
                assert time.monotonic() < end, f"{counted} of {tasks} sweeps were counted"
                time.sleep(0.2)
            assert counted == tasks
        finally:
            worker.terminate()
            worker.wait(30)
    assert len(list(folder.glob("histogram_*.db"))) >= 3, "the worker itself and its two processes"

"""Where metrics are served, to whom, and what they show."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import create_engine

from api.http.server import make_config
from api.main import create_app
from api.settings import Settings
from api.store import transitions
from api.store.database import Database
from api.store.tables import TrainingRow
from tests.api.routes.conftest import make_settings, serving
from tests.api.routes.user import problem
from tests.api.services.test_progress import Watched
from tests.monitoring.promtool import PROMTOOL, findings

TOKEN = "mtr_0123456789abcdef"
Labels = dict[str, str]


def scrape(url: str, token: str | None = None) -> dict[str, list[tuple[Labels, float]]]:
    """Return all samples by their name."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    answer = httpx.get(f"{url}/metrics", headers=headers, timeout=30)
    assert answer.status_code == 200, answer.text
    found: dict[str, list[tuple[Labels, float]]] = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


@pytest.fixture(scope="module")
def training(postgres_url: str) -> Iterator[tuple[Database, Watched, str]]:
    """Yield a training that runs and has completed three rounds."""
    engine = create_engine(postgres_url)
    database = Database(engine, lambda _step, _row_id: None)
    watched = Watched(database)
    yield database, watched, watched.training(1, "training", rounds=3)
    engine.dispose()


def test_an_active_training_is_shown_until_it_ends(
    postgres_url: str, tmp_path: Path, training: tuple[Database, Watched, str]
) -> None:
    database, watched, training_id = training
    labels = {"cluster_id": watched.cluster_id, "training_id": training_id}
    with serving(create_app(make_settings(postgres_url, tmp_path, metrics_per_training=True))) as url:
        shown = scrape(url)
        assert shown["flow_nexus_training_job_epoch"] == [(labels, 3)]
        assert shown["flow_nexus_cluster_workers_total"] == [(labels, 3)]
        assert shown["flow_nexus_cluster_workers_healthy"] == [(labels, 3)]
        assert shown["flow_nexus_cluster_workers_unhealthy"] == [(labels, 0)]
        assert shown["flow_nexus_cluster_cost_per_hour"] == [(labels, 12)]
        assert shown["flow_nexus_training_job_accuracy"][0][0] == labels
        assert "flow_nexus_cluster_budget_dollars" not in shown, "the cluster has no budget"
        assert sum(value for _, value in shown["flow_nexus_training_job_workers"]) == 3
        with database.unit_of_work() as uow:
            transitions.move(uow.session, uow.session.get_one(TrainingRow, training_id), "stopping")
        assert training_id in httpx.get(f"{url}/metrics").text
        with database.unit_of_work() as uow:
            transitions.move(uow.session, uow.session.get_one(TrainingRow, training_id), "stopped")
        assert training_id not in httpx.get(f"{url}/metrics").text
        with database.unit_of_work() as uow:
            transitions.move(uow.session, uow.session.get_one(TrainingRow, training_id), "pending")


@pytest.mark.parametrize(
    ("fields", "is_shown"),
    [
        ({}, False),
        ({"metrics_per_training": True}, True),
        ({"metrics_token": TOKEN}, True),
        ({"metrics_port": 9}, True),
        ({"metrics_token": TOKEN, "metrics_per_training": False}, False),
    ],
)
def test_ids_are_shown_where_the_metrics_are_protected_or_the_operator_says_so(
    tmp_path: Path, fields: dict[str, object], is_shown: bool
) -> None:
    assert make_settings("postgresql://", tmp_path, **fields).shows_trainings is is_shown


def test_with_a_token_only_its_holder_reads_them(
    postgres_url: str, tmp_path: Path, training: tuple[Database, Watched, str], caplog: pytest.LogCaptureFixture
) -> None:
    _, watched, training_id = training
    with serving(create_app(make_settings(postgres_url, tmp_path, metrics_token=TOKEN))) as url:
        wrong = (f"Bearer {TOKEN}x".encode(), TOKEN.encode(), b"Bearer \xe9", b"Bearer")
        for headers in ([], *([(b"authorization", value)] for value in wrong)):
            answer = httpx.get(f"{url}/metrics", headers=headers)
            assert problem(answer, 401)["code"] == "invalid_metrics_token"
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert TOKEN not in answer.text
            assert training_id not in answer.text
        assert scrape(url, TOKEN)["flow_nexus_training_job_epoch"][0][0]["cluster_id"] == watched.cluster_id
        assert httpx.get(f"{url}/healthz").status_code == 200, "it needs no token"
    assert TOKEN not in caplog.text


@contextmanager
def serving_on_two_ports(app: FastAPI, public: socket.socket, metrics: socket.socket) -> Iterator[None]:
    server = uvicorn.Server(make_config(app, log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [public, metrics]}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(timeout=30)


def test_a_port_of_their_own_serves_metrics_and_nothing_else(postgres_url: str, tmp_path: Path) -> None:
    public, metrics = (socket.create_server(("127.0.0.1", 0)) for _ in range(2))
    at, metrics_at = (f"http://127.0.0.1:{each.getsockname()[1]}" for each in (public, metrics))
    settings: Settings = make_settings(postgres_url, tmp_path, metrics_port=metrics.getsockname()[1])
    with serving_on_two_ports(create_app(settings), public, metrics):
        assert scrape(metrics_at)["flow_nexus_database_up"] == [({}, 1)]
        assert httpx.get(f"{at}/healthz", timeout=30).status_code == 200
        lying = {"Host": metrics_at.removeprefix("http://")}
        assert problem(httpx.get(f"{at}/metrics", headers=lying), 404)["code"] == "no_such_path"
        for path in ("/healthz", "/v1/clusters", "/openapi.json", "/", "/metrics/", "/dashboard"):
            assert problem(httpx.get(f"{metrics_at}{path}"), 404)["code"] == "no_such_path", path
        for method in ("POST", "PUT", "DELETE"):
            assert httpx.request(method, f"{metrics_at}/v1/clusters").status_code == 404


def test_requests_have_a_bounded_number_of_labels(url: str) -> None:
    for path in ("/healthz", "/nowhere/1", "/nowhere/2", "/v1/clusters/made-up"):
        httpx.get(f"{url}{path}")
    httpx.request("PROPFIND", f"{url}/nowhere/1")
    shown = scrape(url)
    counted = [labels for labels, _ in shown["flow_nexus_http_request_duration_seconds_count"]]
    assert {"operation": "get_health", "method": "GET", "status_class": "2xx"} in counted
    assert {"operation": "none", "method": "GET", "status_class": "4xx"} in counted
    assert {"operation": "none", "method": "other", "status_class": "4xx"} in counted
    assert "nowhere" not in str(counted)
    assert "made-up" not in str(counted)
    assert "PROPFIND" not in str(counted)


def test_the_process_its_parts_and_its_disk(url: str, settings: Settings) -> None:
    shown = scrape(url)
    assert shown["flow_nexus_waiting_use_cases"] == [({}, 0)], "only this scrape runs"
    assert {labels["part"]: value for labels, value in shown["flow_nexus_part_up"]} == {
        "database": 1,
        "broker": 0,
        "steps": 0,
        "sandboxes": 0,
    }
    ((labels, free),), ((_, size),) = shown["flow_nexus_disk_free_bytes"], shown["flow_nexus_disk_size_bytes"]
    assert labels == {"folder": "models"}
    assert 0 < free < size
    assert settings.logs_dir is None, "so it has no figure"
    buckets = shown["flow_nexus_event_loop_lag_seconds_bucket"]
    assert buckets[-1][0] == {"le": "+Inf"}


@pytest.mark.skipif(PROMTOOL is None, reason="promtool of Debian's package prometheus is not installed")
def test_names_follow_the_conventions_of_prometheus(
    postgres_url: str, tmp_path: Path, training: tuple[Database, Watched, str]
) -> None:
    with serving(create_app(make_settings(postgres_url, tmp_path, metrics_per_training=True))) as url:
        scrape(url)
        exposed = httpx.get(f"{url}/metrics").text
    assert training[2] in exposed
    # This name is agreed with the users of the figures.
    allowed = ['flow_nexus_cluster_workers_total non-counter metrics should not have "_total" suffix']
    assert findings(exposed) == allowed

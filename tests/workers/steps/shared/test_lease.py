"""A step that fails while the database is away releases its row once the database is back."""

import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import psycopg
import pytest
from sqlalchemy import Engine, func, make_url, update
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from api.domain import ids
from api.domain.records import FailureReason
from api.domain.sandboxes import ResourceLimitHit, SandboxUnavailableError
from api.domain.specs import PredictionInput
from api.store import leases, transitions
from api.store.database import Database
from api.store.tables import ClusterRow, PredictionRow
from tests.api.store.rows import make_cluster, make_node, make_project, make_training
from tests.workers.steps.context import make_context
from workers import metrics
from workers.agent_client import AgentUnreachableError
from workers.context import Context
from workers.sandboxes.client import SandboxClient
from workers.steps.shared.failure import MOST_FAILURES, AgentDiedError, absent_part, describe
from workers.steps.shared.lease import under_lease
from workers.steps.shared.node_snapshot import NodeSnapshot

AWAY_S = 1.5
LEASE_S = 30.0


def close(server: Engine, name: str) -> None:
    """Refuse new connections to the database, and end the open ones."""
    with server.connect() as connection:
        connection.exec_driver_sql(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        connection.exec_driver_sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")


def reopen(server: Engine, name: str) -> None:
    with server.connect() as connection:
        connection.exec_driver_sql(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


def test_a_row_is_given_back_as_soon_as_the_database_is_there_again(
    database: Database, postgres_server: Engine, postgres_url: str, tmp_path: Path
) -> None:
    name = make_url(postgres_url).database or ""
    context = make_context(database, tmp_path, lease_s=LEASE_S)
    with database.unit_of_work() as uow:
        row = make_cluster(uow.session, make_project(uow.session))
        row.due_at = func.clock_timestamp()
        cluster_id = row.id

    def fail(_token: str) -> None:
        close(postgres_server, name)
        threading.Timer(AWAY_S, reopen, (postgres_server, name)).start()
        with database.unit_of_work() as uow:
            uow.session.get(ClusterRow, cluster_id)

    started = time.monotonic()
    under_lease(context, ClusterRow, cluster_id, fail)
    assert AWAY_S <= time.monotonic() - started < LEASE_S / 2
    with database.unit_of_work() as uow:
        row = uow.session.get_one(ClusterRow, cluster_id)
        assert (row.lease_token, row.lease_until) == (None, None)
        assert row.due_at is not None


def _due_prediction(database: Database) -> str:
    with database.unit_of_work() as uow:
        cluster = make_cluster(uow.session, make_project(uow.session))
        aggregator = make_node(uow.session, cluster, "aggregator")
        training = make_training(uow.session, cluster, aggregator)
        row = PredictionRow(
            id=ids.prediction_id("global"),
            project_id=cluster.project_id,
            cluster_id=cluster.id,
            training_id=training.id,
            status="pending",
            aggregation="global",
            request=PredictionInput(inputs=["a text"], input_data=None),
            due_at=func.clock_timestamp(),
        )
        transitions.created(uow.session, row)
        return row.id


def _attempt(context: Context, prediction_id: str, error: Exception, reasons: list[FailureReason]) -> None:
    """Run one step that fails, as soon as the row is due."""
    with context.database.unit_of_work() as uow:
        uow.session.get_one(PredictionRow, prediction_id).due_at = func.clock_timestamp()

    def body(_token: str) -> None:
        raise error

    under_lease(context, PredictionRow, prediction_id, body, lambda _, reason: reasons.append(reason))


def test_work_that_fails_by_itself_ends_after_five_failures(database: Database, tmp_path: Path) -> None:
    context, prediction_id = make_context(database, tmp_path), _due_prediction(database)
    reasons: list[FailureReason] = []
    for _ in range(4):
        _attempt(context, prediction_id, ValueError("a customer's text"), reasons)
        assert reasons == []
    _attempt(context, prediction_id, ValueError("a customer's text"), reasons)
    assert [reason.code for reason in reasons] == ["step_failed"]
    assert "ValueError" in reasons[0].detail
    assert "customer" not in reasons[0].detail


@pytest.mark.parametrize(
    "error",
    [
        SandboxUnavailableError("the sandbox provider could not list sandboxes in time"),
        AgentUnreachableError("w1: ConnectError"),
        OperationalError("SELECT 1", {}, psycopg.OperationalError("the server closed the connection")),
    ],
)
def test_work_that_waits_for_an_absent_part_is_not_given_up(database: Database, tmp_path: Path, error: Exception) -> None:
    context, prediction_id = make_context(database, tmp_path), _due_prediction(database)
    reasons: list[FailureReason] = []
    for _ in range(12):
        _attempt(context, prediction_id, error, reasons)
    assert reasons == []
    with database.unit_of_work() as uow:
        assert uow.session.get_one(PredictionRow, prediction_id).failures == 0


@pytest.mark.parametrize("sqlstate", ["22P05", "57014", "54000"])
def test_a_statement_that_the_database_refuses_is_a_failure_of_its_own(sqlstate: str) -> None:
    cause = psycopg.errors.lookup(sqlstate)("refused")
    assert absent_part(DBAPIError.instance("INSERT", {}, cause, psycopg.Error)) is None


def test_retries_and_what_is_given_up_are_counted_by_their_cause(database: Database, tmp_path: Path) -> None:
    context, prediction_id = make_context(database, tmp_path), _due_prediction(database)

    def counted() -> list[float]:
        causes = (metrics.RETRIES.labels("prediction", cause) for cause in ("sandboxes", "agent", "database", "failure"))
        return [counter._value.get() for counter in (*causes, metrics.GIVEN_UP.labels("prediction"))]

    before = counted()
    for error in (SandboxUnavailableError("away"), AgentUnreachableError("away"), PoolTimeoutError("away")):
        _attempt(context, prediction_id, error, [])
    for _ in range(MOST_FAILURES):
        _attempt(context, prediction_id, ValueError("its own"), [])
    assert [after - earlier for after, earlier in zip(counted(), before, strict=True)] == [1, 1, 1, MOST_FAILURES - 1, 1]


def test_a_lease_that_expired_is_counted_when_it_is_taken_over(database: Database, tmp_path: Path) -> None:
    context, prediction_id = make_context(database, tmp_path), _due_prediction(database)
    taken_over = metrics.TAKEN_OVER.labels("prediction")
    before = taken_over._value.get()
    with database.unit_of_work() as uow:
        assert leases.claim(uow.session, PredictionRow, prediction_id, 60)
        uow.session.execute(update(PredictionRow).values(lease_until=PredictionRow.created_at))
    ran: list[str] = []
    under_lease(context, PredictionRow, prediction_id, ran.append)
    assert (len(ran), taken_over._value.get() - before) == (1, 1)


def test_a_failure_is_logged_without_its_message(database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    context, prediction_id = make_context(database, tmp_path), _due_prediction(database)
    _attempt(context, prediction_id, ValueError("a customer's text"), [])
    assert "ValueError" in caplog.text
    assert "customer" not in caplog.text


def test_the_reason_names_the_limit_that_the_sandbox_reached(database: Database, tmp_path: Path) -> None:
    class Provider:
        async def limit_hits(self, sandbox_id: str) -> list[ResourceLimitHit]:
            now = datetime.now(UTC)
            return [ResourceLimitHit("memory", 5, now, now), ResourceLimitHit("timeout", 1, now, now)]

    context = replace(make_context(database, tmp_path), provider=cast(SandboxClient, Provider()))
    node = NodeSnapshot("ps_1", "fed_1", "sbx_1", "aggregator", "running", 0.0, ())
    reason = describe(context, AgentDiedError([node], "a prediction"))
    assert reason.code == "agent_died"
    assert reason.detail == (
        "The agent stopped answering 5 times during a prediction: ps_1 (sandbox sbx_1), limit_hits: memory."
    )

"""Idle clusters and spent budgets, on real rows whose times are moved back in the database."""

from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, update

from api.services import sandboxes
from api.store import events, transitions
from api.store.database import Database
from api.store.documents import FormerSandbox
from api.store.tables import ClusterRow, NodeRow, TrainingRow
from tests.api.store.rows import make_cluster, make_node, make_project, make_training
from tests.workers.steps.context import make_context
from workers.context import Context
from workers.steps import limits
from workers.steps.shared.clock_jump import ClockJumpDetector


@pytest.fixture
def context(database: Database, tmp_path: Path) -> Context:
    return make_context(database, tmp_path)


class Cluster:
    """A cluster of one worker at 0.05 USD a minute and an aggregator, both running."""

    def __init__(self, context: Context, **fields: Any) -> None:
        self._context = context
        with context.database.unit_of_work() as uow:
            cluster = make_cluster(uow.session, make_project(uow.session))
            for name, value in fields.items():
                setattr(cluster, name, value)
            nodes = [make_node(uow.session, cluster), make_node(uow.session, cluster, "aggregator")]
            for node in nodes:
                node.sandbox_id, node.started_at = f"sbx-{node.id}", func.clock_timestamp()
                transitions.move(uow.session, node, "running")
            transitions.move(uow.session, cluster, "connected")
            self.id, self.worker, self.aggregator = cluster.id, nodes[0].id, nodes[1].id

    def let_pass(self, minutes: float) -> None:
        """Move all times of the cluster back by `minutes`."""
        age = timedelta(minutes=minutes)
        with self._context.database.unit_of_work() as uow:
            for table, columns in (
                (ClusterRow, ("created_at", "last_call_at", "idle_warned_at", "budget_warned_at")),
                (NodeRow, ("started_at",)),
                (TrainingRow, ("finished_at",)),
            ):
                cluster_id = table.id if table is ClusterRow else table.cluster_id  # type: ignore[union-attr]
                moved = {name: getattr(table, name) - age for name in columns}
                uow.session.execute(update(table).where(cluster_id == self.id).values(moved))

    def enforce_limits(self) -> str:
        """Run the periodic check. Return the status of the cluster."""
        limits.enforce(self._context)
        with self._context.database.unit_of_work() as uow:
            return uow.session.get_one(ClusterRow, self.id).status

    def limit_events(self) -> list[str]:
        with self._context.database.unit_of_work() as uow:
            rows = events.read(uow.session, self.id, 0)
            return [event.type for event in rows if event.type.startswith(("cluster.idle", "cluster.budget"))]

    def train(self, status: str) -> str:
        with self._context.database.unit_of_work() as uow:
            cluster = uow.session.get_one(ClusterRow, self.id)
            row = make_training(uow.session, cluster, uow.session.get_one(NodeRow, self.aggregator), "training")
            if status != "training":
                transitions.move(uow.session, row, status)
                row.finished_at = func.clock_timestamp()
            return row.id


def test_an_idle_cluster_is_warned_and_then_ended(context: Context) -> None:
    cluster = Cluster(context)
    cluster.let_pass(24)
    assert (cluster.enforce_limits(), cluster.limit_events()) == ("connected", [])
    cluster.let_pass(2)
    for _ in range(2):
        assert (cluster.enforce_limits(), cluster.limit_events()) == ("connected", ["cluster.idle_warning"])
    cluster.let_pass(5)
    assert cluster.enforce_limits() == "terminating"
    assert cluster.limit_events() == ["cluster.idle_warning", "cluster.idle_timeout"]
    with context.database.unit_of_work() as uow:
        assert {uow.session.get_one(NodeRow, node).status for node in (cluster.worker, cluster.aggregator)} == {"terminating"}


def test_no_cluster_is_ended_without_a_warning(context: Context) -> None:
    """The check did not run for hours. Still the warning comes first."""
    cluster = Cluster(context)
    cluster.let_pass(500)
    assert (cluster.enforce_limits(), cluster.limit_events()) == ("connected", ["cluster.idle_warning"])
    cluster.let_pass(5)
    assert cluster.enforce_limits() == "terminating"


def test_work_in_a_sandbox_after_the_warning_begins_the_time_anew(context: Context) -> None:
    cluster = Cluster(context)
    cluster.let_pass(26)
    cluster.enforce_limits()
    with context.database.unit_of_work() as uow:
        sandboxes.note_call(uow.session, cluster.id)
    cluster.let_pass(10)
    assert (cluster.enforce_limits(), cluster.limit_events()) == ("connected", ["cluster.idle_warning"])
    cluster.let_pass(16)
    assert (cluster.enforce_limits(), cluster.limit_events()) == ("connected", ["cluster.idle_warning"] * 2)


def test_the_time_that_the_machine_slept_is_no_idle_time(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    wall = 0.0
    monkeypatch.setattr(limits, "_clock", ClockJumpDetector(lambda: wall, lambda: 0.0))
    cluster = Cluster(context)
    cluster.let_pass(500)
    wall = 500 * 60.0
    assert (cluster.enforce_limits(), cluster.limit_events()) == ("connected", [])
    cluster.let_pass(26)
    assert (cluster.enforce_limits(), cluster.limit_events()) == ("connected", ["cluster.idle_warning"])


def test_a_training_keeps_its_cluster_and_its_end_begins_the_time_anew(context: Context) -> None:
    busy, done = Cluster(context), Cluster(context)
    busy.train("training")
    busy.let_pass(500)
    done.let_pass(500)
    done.train("completed")
    done.let_pass(20)
    assert (busy.enforce_limits(), busy.limit_events()) == ("connected", [])
    assert (done.enforce_limits(), done.limit_events()) == ("connected", [])


@pytest.mark.parametrize(("minutes", "after", "warnings"), [(0.0, 10_000, 0), (2.0, 1.7, 1), (100.0, 60, 0)])
def test_a_cluster_may_have_a_timeout_of_its_own(context: Context, minutes: float, after: float, warnings: int) -> None:
    cluster = Cluster(context, idle_timeout_minutes=minutes)
    cluster.let_pass(after)
    cluster.enforce_limits()
    assert len(cluster.limit_events()) == warnings


def test_a_budget_warns_at_four_fifths_and_ends_at_the_whole(context: Context) -> None:
    # Two nodes at 0.05 USD a minute.
    cluster = Cluster(context, budget_usd=Decimal("1.00"))
    training = cluster.train("training")
    cluster.let_pass(7)
    assert (cluster.enforce_limits(), cluster.limit_events()) == ("connected", [])
    cluster.let_pass(1.1)
    for _ in range(2):
        assert (cluster.enforce_limits(), cluster.limit_events()) == ("connected", ["cluster.budget_warning"])
    cluster.let_pass(2)
    assert cluster.enforce_limits() == "terminating"
    assert cluster.limit_events() == ["cluster.budget_warning", "cluster.budget_spent"]
    with context.database.unit_of_work() as uow:
        assert uow.session.get_one(TrainingRow, training).status == "stopping", "stopped, not failed"
        spent = next(event for event in events.read(uow.session, cluster.id, 0) if event.type == "cluster.budget_spent")
        assert spent.data["budget_usd"] == 1.0
        assert 1.0 <= spent.data["cost_usd"] < 1.05


def test_what_former_sandboxes_cost_counts(context: Context) -> None:
    cluster = Cluster(context, budget_usd=Decimal("1.00"))
    former: FormerSandbox = {
        "sandbox_id": "x",
        "started_at": "2026-01-01T00:00:00+00:00",
        "ended_at": "2026-01-01T00:17:00+00:00",
    }
    with context.database.unit_of_work() as uow:
        uow.session.get_one(NodeRow, cluster.aggregator).former_sandboxes = [former]
    assert (cluster.enforce_limits(), cluster.limit_events()) == ("connected", ["cluster.budget_warning"])

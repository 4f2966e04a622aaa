"""Figures of the active trainings, read from rows in a few queries."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from sqlalchemy import func, update

from api.services import monitoring, progress
from api.services.monitoring import ActiveTraining
from api.store import leases, transitions
from api.store.database import Database
from api.store.tables import ClusterRow, NodeRow, RoundRow, TrainingRow
from tests.api.services.test_progress import Watched, statements


def active(database: Database) -> dict[str, ActiveTraining]:
    with database.unit_of_work() as uow:
        return {one.training_id: one for one in monitoring.active_trainings(uow.session)}


def test_an_active_training_has_the_figures_of_its_status(database: Database) -> None:
    watched = Watched(database)
    watched.training(1)
    training_id = watched.training(2, "training", rounds=4)
    with database.unit_of_work() as uow:
        uow.session.execute(update(ClusterRow).where(ClusterRow.id == watched.cluster_id).values(budget_usd=Decimal(12)))
        uow.session.get_one(RoundRow, (training_id, 4)).finished_at = datetime(2026, 1, 2, tzinfo=UTC)
        transitions.move(uow.session, uow.session.get_one(NodeRow, watched.workers[0]), "lost")
    shown = watched.status().sessions[0]
    assert isinstance(shown, progress.SessionView)
    one = active(database)[training_id]
    assert (one.cluster_id, one.epoch, one.total_epochs) == (watched.cluster_id, shown.epoch, shown.total_epochs)
    assert (one.loss, one.accuracy) == (shown.figures.global_loss, shown.figures.global_accuracy)
    assert one.validation_accuracy == shown.figures.validation_accuracy
    assert one.remaining_seconds == shown.remaining_seconds
    assert one.cost_usd == pytest.approx(float(shown.cost_usd), rel=1e-3)
    assert one.cluster_cost_usd == pytest.approx(float(watched.status().cost_usd), rel=1e-3)
    assert one.cluster_usd_per_hour == pytest.approx(4 * 60 * 0.05), "three workers and an aggregator"
    assert one.budget_usd == 12
    assert one.progress_at == datetime(2026, 1, 2, tzinfo=UTC).timestamp()
    assert (one.workers, one.healthy_workers) == (3, 2)
    with database.unit_of_work() as uow:
        opened = RoundRow(training_id=training_id, number=5, status="running", base_digest="0" * 64)
        opened.started_at = datetime(2026, 1, 3, tzinfo=UTC)
        uow.session.add(opened)
    assert active(database)[training_id].progress_at == datetime(2026, 1, 3, tzinfo=UTC).timestamp()
    states = [shown.workers[node_id].state for node_id in watched.workers]
    assert one.worker_states == {state: states.count(state) for state in states if state}


def test_what_is_not_measured_is_none(database: Database) -> None:
    watched = Watched(database)
    training_id = watched.training(1, "training")
    one = active(database)[training_id]
    assert (one.epoch, one.loss, one.accuracy, one.validation_accuracy) == (0, None, None, None)
    assert (one.remaining_seconds, one.round_seconds, one.budget_usd, one.worker_states) == (None, None, None, {})
    with database.unit_of_work() as uow:
        began = uow.session.get_one(TrainingRow, training_id).started_at
        assert began is not None
        assert one.progress_at == began.timestamp()
        uow.session.execute(update(TrainingRow).where(TrainingRow.id == training_id).values(started_at=None))
    assert active(database)[training_id].progress_at is None


def test_a_resumed_training_does_not_count_its_pause(database: Database) -> None:
    """Before its next round opens, its last one says nothing of its progress."""
    training_id = Watched(database).training(1, "training", rounds=2)
    with database.unit_of_work() as uow:
        uow.session.get_one(RoundRow, (training_id, 2)).finished_at = datetime(2026, 1, 2, tzinfo=UTC)
        uow.session.execute(update(TrainingRow).where(TrainingRow.id == training_id).values(status="pending"))
    one = active(database)[training_id]
    assert (one.epoch, one.progress_at) == (2, None)


def test_an_ended_training_is_not_active(database: Database) -> None:
    watched = Watched(database)
    training_id = watched.training(1, "training", rounds=1)
    assert training_id in active(database)
    with database.unit_of_work() as uow:
        transitions.move(uow.session, uow.session.get_one(TrainingRow, training_id), "completed")
    assert training_id not in active(database)


def test_the_number_of_queries_does_not_grow(database: Database) -> None:
    for _ in range(3):
        watched = Watched(database, workers=5)
        watched.training(1)
        watched.training(2, "training", rounds=3)
    with statements(database) as seen:
        assert len(active(database)) >= 3
    assert len([statement for statement in seen if statement.lstrip().startswith("SELECT")]) == 3


def test_a_row_is_late_only_while_nobody_has_its_lease(database: Database) -> None:
    watched = Watched(database)
    with database.unit_of_work() as uow:
        overdue = update(NodeRow).where(NodeRow.id == watched.aggregator)
        uow.session.execute(update(NodeRow).values(due_at=None))
        uow.session.execute(overdue.values(due_at=func.clock_timestamp() - func.make_interval(0, 0, 0, 0, 1)))
        assert 3600 <= monitoring.due_seconds(uow.session)["nodes"] < 3700
        assert leases.claim(uow.session, NodeRow, watched.aggregator, 60)
        assert monitoring.due_seconds(uow.session)["nodes"] == 0
        assert monitoring.by_status(uow.session)["nodes"]["running"] >= 4

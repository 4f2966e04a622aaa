"""Retention deletes old data and keeps the rest."""

import os
from datetime import timedelta
from pathlib import Path

from sqlalchemy import func, select, update

from api.services import models
from api.store import transitions
from api.store.database import Database
from api.store.tables import ClusterRow, EventRow, ModelRow
from tests.api.store.rows import make_cluster, make_node, make_project, make_training
from tests.workers.steps.context import make_context
from workers.context import Context
from workers.steps import retention


def test_old_events_go_and_numbers_are_not_used_again(database: Database, tmp_path: Path) -> None:
    context = make_context(database, tmp_path, retention_events_days=10)
    with database.unit_of_work() as uow:
        cluster = make_cluster(uow.session, make_project(uow.session))
        transitions.move(uow.session, cluster, "connected")
    with database.unit_of_work() as uow:
        old = func.clock_timestamp() - timedelta(days=11)
        uow.session.execute(update(EventRow).where(EventRow.cluster_id == cluster.id, EventRow.seq == 1).values(created_at=old))
    for _ in range(2):
        retention.apply(context)
    with database.unit_of_work() as uow:
        transitions.move(uow.session, uow.session.get_one(ClusterRow, cluster.id), "terminating")
    with database.unit_of_work() as uow:
        kept = uow.session.scalars(select(EventRow.seq).where(EventRow.cluster_id == cluster.id).order_by(EventRow.seq))
        assert list(kept) == [2, 3]


def _model(context: Context, days: int) -> str:
    with context.database.unit_of_work() as uow:
        cluster = make_cluster(uow.session, make_project(uow.session))
        training = make_training(uow.session, cluster, make_node(uow.session, cluster, "aggregator"), "completed")
        row = ModelRow(
            id=f"mdl_{days}",
            project_id=cluster.project_id,
            cluster_id=cluster.id,
            training_id=training.id,
            status="completed",
            name="m",
            digest="0" * 64,
            finished_at=func.clock_timestamp() - timedelta(days=days),
        )
        transitions.created(uow.session, row)
        models.archive(context.settings, row).write_bytes(b"weights")
        return row.id


def test_old_models_expire_with_their_files(database: Database, tmp_path: Path) -> None:
    context = make_context(database, tmp_path, retention_models_days=5)
    old, new = _model(context, 6), _model(context, 4)
    for _ in range(2):
        retention.apply(context)
    with database.unit_of_work() as uow:
        assert uow.session.get_one(ModelRow, old).status == "expired"
        assert uow.session.get_one(ModelRow, new).status == "completed"
    assert [path.name for path in tmp_path.iterdir()] == [f"{new}.tar"]


def test_models_stay_unless_a_time_is_set(database: Database, tmp_path: Path) -> None:
    context = make_context(database, tmp_path)
    retention.apply(context)
    model_id = _model(context, 10_000)
    retention.apply(context)
    assert (tmp_path / f"{model_id}.tar").exists()


def test_large_logs_are_set_aside_and_old_ones_removed(database: Database, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    context = make_context(database, tmp_path, logs_dir=logs, retention_logs_days=3)
    old = logs / "api.log.20200101T000000"
    old.write_text("old")
    os.utime(old, (0, 0))
    (logs / "beat.log").write_text("small")
    with (logs / "api.log").open("ab") as writer:
        writer.write(b"x" * (17 << 20))
        writer.flush()
        retention.apply(context)
        writer.write(b"goes on")
    assert (logs / "api.log").read_bytes() == b"goes on"
    (aside,) = logs.glob("api.log.*")
    assert aside.stat().st_size == 17 << 20
    assert (logs / "beat.log").read_text() == "small"

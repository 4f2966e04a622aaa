"""The status of a cluster: it reads no round, and shows what the rounds have changed."""

import importlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest
from sqlalchemy import event, select, text, update
from sqlalchemy.orm import Session

from api.domain.privacy import PrivacyPlan, TrainingPrivacyRecord
from api.domain.records import FailureReason
from api.domain.red_flags import RaisedFlag
from api.domain.stopping import TrainingStop
from api.domain.training_progress import TrainingProgress, WorkerProgress
from api.schemas.clusters import ClusterStatus, EarlierSession, TrainingSession
from api.services import progress
from api.store import transitions
from api.store.database import Database
from api.store.tables import ClusterRow, NodeRow, RoundNodeRow, RoundRow, TrainingRow
from tests.api.store.rows import make_cluster, make_node, make_project, make_training

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
# Of 100 workers, with everything wrong that can go wrong.
MOST_BYTES = 65_536


class Watched:
    """A cluster with workers and trainings. Rounds are recorded as steps record them."""

    def __init__(self, database: Database, workers: int = 3) -> None:
        self.database = database
        with database.unit_of_work() as uow:
            cluster = make_cluster(uow.session, make_project(uow.session))
            self.cluster_id, self.project_id = cluster.id, cluster.project_id
            nodes = [make_node(uow.session, cluster, id=f"node_w{number}_{cluster.id[4:]}") for number in range(workers)]
            aggregator = make_node(uow.session, cluster, "aggregator")
            for node in (*nodes, aggregator):
                node.sandbox_id = f"sbx{node.id}"
                node.started_at = BEGAN
                transitions.move(uow.session, node, "running")
            self.workers, self.aggregator = [node.id for node in nodes], aggregator.id

    def training(self, number: int, status: str = "completed", rounds: int = 0) -> str:
        """Create training `number` of the cluster, with completed rounds, and return its id."""
        with self.database.unit_of_work() as uow:
            cluster = uow.session.get_one(ClusterRow, self.cluster_id)
            row = make_training(uow.session, cluster, uow.session.get_one(NodeRow, self.aggregator), status)
            row.workers = self.workers
            row.config = row.config.model_copy(update={"epochs": 200})
            row.created_at = row.started_at = BEGAN + timedelta(hours=number)
            if status != "training":
                row.finished_at = row.created_at + timedelta(minutes=30)
                row.cost_usd = progress.training_cost(uow.session, row, row.finished_at)
            for _ in range(rounds):
                self.round(uow.session, row)
            return row.id

    def round(self, session: Session, row: TrainingRow, number: int | None = None) -> None:
        draw = random.Random(f"{row.id}{row.completed_rounds}")
        number = number or row.completed_rounds + 1
        made = RoundRow(
            training_id=row.id,
            number=number,
            status="completed",
            base_digest="0" * 64,
            global_loss=draw.choice([draw.random(), None]) if number > 2 else draw.random(),
            global_accuracy=draw.random(),
            validation_accuracy=draw.random(),
            seconds=draw.choice([draw.random(), None]),
        )
        session.add(made)
        for node_id in draw.sample(self.workers, max(1, len(self.workers) - 1)):
            loss = draw.choice([draw.random(), None])
            session.add(
                RoundNodeRow(
                    training_id=row.id,
                    number=number,
                    node_id=node_id,
                    state="done" if loss is not None else "failed",
                    reason=None if loss is not None else "out of memory",
                    local_loss=loss,
                    local_accuracy=loss,
                    samples=None if loss is None else draw.randint(1, 99),
                )
            )
        row.completed_rounds = number
        progress.note_round(row, made)
        progress.note_workers(session, row, number)

    def status(self) -> progress.ClusterStatusView:
        with self.database.unit_of_work() as uow:
            return progress.cluster_status(uow.session, self.project_id, self.cluster_id)

    def answer(self) -> ClusterStatus:
        with self.database.unit_of_work() as uow:
            return ClusterStatus.of(progress.cluster_status(uow.session, self.project_id, self.cluster_id))


@contextmanager
def statements(database: Database) -> Iterator[list[str]]:
    """Collect the statements of a block."""
    seen: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        seen.append(statement)

    event.listen(database.engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(database.engine, "before_cursor_execute", note)


def test_the_status_shows_what_the_rounds_hold(database: Database) -> None:
    """Compare with the formulas of the documentation, over all rows of the rounds."""
    watched = Watched(database)
    training_id = watched.training(1, "training", rounds=17)
    (session,) = watched.status().sessions
    assert isinstance(session, progress.SessionView)
    with database.unit_of_work() as uow:
        rounds = uow.session.scalars(
            select(RoundRow).where(RoundRow.training_id == training_id).order_by(RoundRow.number)
        ).all()
        nodes = uow.session.scalars(select(RoundNodeRow).where(RoundNodeRow.training_id == training_id)).all()
    losses = [row.global_loss for row in rounds if row.global_loss is not None]
    falls = [sooner - later for sooner, later in pairwise(losses)]
    assert session.epoch == 17
    assert session.figures.global_loss == rounds[-1].global_loss
    assert session.figures.validation_accuracy == rounds[-1].validation_accuracy
    assert session.figures.convergence_rate == pytest.approx(min(1, max(0, 1 - falls[-1] / max(falls))))
    seconds = [row.seconds for row in rounds if row.seconds is not None][-5:]
    assert session.remaining_seconds == pytest.approx(sum(seconds) / len(seconds) * (200 - 17))
    assert set(session.workers) == set(watched.workers)
    for node_id, worker in session.workers.items():
        newest = sorted((row for row in nodes if row.node_id == node_id), key=lambda row: row.number)
        measured = [row for row in newest if row.local_loss is not None]
        assert (worker.state, worker.reason) == (newest[-1].state, newest[-1].reason)
        assert (worker.local_loss, worker.samples) == (measured[-1].local_loss, measured[-1].samples)


def test_a_new_round_keeps_the_last_measured_figures(database: Database) -> None:
    watched = Watched(database, workers=1)
    training_id = watched.training(1, "training")
    with database.unit_of_work() as uow:
        row = uow.session.get_one(TrainingRow, training_id)
        figures = {"training_id": training_id, "node_id": watched.workers[0]}
        for number in (1, 2):
            uow.session.add(RoundRow(training_id=training_id, number=number, status="running", base_digest=""))
        uow.session.flush()
        uow.session.add(RoundNodeRow(number=1, state="done", local_loss=0.5, local_accuracy=0.9, samples=7, **figures))
        progress.note_workers(uow.session, row, 1)
        uow.session.add(RoundNodeRow(number=2, state="training", **figures))
        progress.note_workers(uow.session, row, 2)
    (session,) = watched.status().sessions
    assert isinstance(session, progress.SessionView)
    worker = session.workers[watched.workers[0]]
    assert (worker.state, worker.local_loss, worker.local_accuracy, worker.samples) == ("training", 0.5, 0.9, 7)


def test_it_reads_no_round_and_asks_as_much_for_a_long_history(database: Database) -> None:
    asked = []
    for trainings, rounds in ((1, 1), (30, 12)):
        watched = Watched(database)
        for number in range(trainings):
            watched.training(number, rounds=rounds)
        with statements(database) as seen:
            watched.answer()
        asked.append(seen)
    assert [len(seen) for seen in asked] == [4, 4]
    assert not [statement for seen in asked for statement in seen if " rounds" in statement or "round_nodes" in statement]


def test_its_plan_reads_a_page_of_an_index(database: Database) -> None:
    watched = Watched(database)
    for number in range(60):
        watched.training(number)
    with statements(database) as seen:
        watched.answer()
    (listing,) = [statement for statement in seen if "LIMIT" in statement]
    parts = "id, status FROM trainings WHERE cluster_id = :id ORDER BY created_at DESC, id DESC LIMIT 20"
    with database.unit_of_work() as uow:
        uow.session.execute(text("SET LOCAL enable_seqscan = off"))
        uow.session.execute(text("SET LOCAL enable_sort = off"))
        plan = "\n".join(uow.session.scalars(text(f"EXPLAIN SELECT {parts}"), {"id": watched.cluster_id}))
    assert "ORDER BY trainings.created_at DESC, trainings.id DESC" in listing
    assert "Index Scan Backward using ix_trainings_cluster_page" in plan
    assert "Sort" not in plan


def test_the_newest_is_in_full_and_older_ones_are_short(database: Database) -> None:
    watched = Watched(database)
    made = [watched.training(number, rounds=2) for number in range(progress.MOST_SESSIONS + 5)]
    sessions = watched.answer().training_sessions
    assert [session.training_id for session in sessions] == made[::-1][: progress.MOST_SESSIONS]
    assert isinstance(sessions[0], TrainingSession)
    assert set(sessions[0].workers) == set(watched.workers)
    for session in sessions[1:]:
        assert isinstance(session, EarlierSession)
        assert session.url == f"/v1/trainings/{session.training_id}"
        assert (session.epoch, session.total_epochs, session.status) == (2, 200, "completed")
        assert (session.elapsed_seconds, session.time_elapsed, session.remaining_seconds) == (1800, "30m 0s", 0)
        assert session.cost_usd == pytest.approx(4 * 0.05 * 30), "four sandboxes for half an hour"
        assert session.metrics.validation_accuracy is not None


def test_a_resumed_training_is_in_full_however_old(database: Database) -> None:
    watched = Watched(database)
    made = [watched.training(number) for number in range(progress.MOST_SESSIONS + 3)]
    with database.unit_of_work() as uow:
        old = uow.session.get_one(TrainingRow, made[0])
        old.status, old.finished_at, old.cost_usd = "training", None, None
    sessions = watched.answer().training_sessions
    assert (len(sessions), sessions[-1].training_id) == (progress.MOST_SESSIONS + 1, made[0])
    full = [session.training_id for session in sessions if isinstance(session, TrainingSession)]
    assert full == [made[-1], made[0]]


def test_times_and_costs_are_those_of_a_whole_second(database: Database) -> None:
    watched = Watched(database)
    watched.training(1, "training")
    (session,) = watched.status().sessions
    assert session.elapsed_seconds is not None
    assert session.elapsed_seconds == int(session.elapsed_seconds)


def test_the_body_stays_small_with_a_hundred_workers_and_everything_wrong(database: Database) -> None:
    watched = Watched(database, workers=100)
    reason = "the update is too far from the global model: " + "9" * 500
    for number in range(30):
        training_id = watched.training(number, "failed" if number % 2 else "completed", rounds=1)
        with database.unit_of_work() as uow:
            row = uow.session.get_one(TrainingRow, training_id)
            row.error = FailureReason(code="nodes_unreachable", detail=", ".join(watched.workers))
            row.stop_reason = TrainingStop(code="target_reached", detail=reason)
            row.privacy = TrainingPrivacyRecord(
                delta=1e-5,
                plans={node_id: PrivacyPlan(2250, 0.0142222222, 1.2345678, 71) for node_id in watched.workers},
                epsilon=dict.fromkeys(watched.workers, 7.1234567),
            )
            flag = {"code": "update_not_finite", "message": reason, "suggestion": "Lower the learning rate. " * 8}
            row.red_flags = [
                RaisedFlag(**flag, node_id=node_id, round=50, since=BEGAN.isoformat()) for node_id in watched.workers
            ]
            row.worker_progress = {
                node_id: WorkerProgress(
                    local_loss=0.123456, local_accuracy=0.765432, samples=2250, state="rejected", reason=reason
                )
                for node_id in watched.workers
            }
    answer = watched.answer()
    newest = answer.training_sessions[0]
    assert isinstance(newest, TrainingSession)
    assert (len(newest.workers), len(newest.red_flags), newest.red_flag_count, len(answer.nodes)) == (100, 10, 100, 101)
    size = len(answer.model_dump_json().encode())
    assert size < MOST_BYTES, f"{size} bytes"


def test_the_cost_of_an_ended_training_is_kept(database: Database) -> None:
    watched = Watched(database)
    training_id = watched.training(1)
    with database.unit_of_work() as uow:
        row = uow.session.get_one(TrainingRow, training_id)
        assert row.cost_usd == Decimal("6.000000")
        uow.session.execute(update(NodeRow).values(price_per_minute=Decimal(9)))
    (session,) = watched.status().sessions
    assert session.cost_usd == Decimal("6.000000")


def test_the_migration_fills_what_the_rounds_of_older_trainings_hold(database: Database) -> None:
    watched = Watched(database)
    made = [watched.training(number, rounds=rounds) for number, rounds in enumerate((0, 1, 2, 3, 11))]
    with database.unit_of_work() as uow:
        row = uow.session.get_one(NodeRow, watched.workers[0])
        row.former_sandboxes = [
            {
                "sandbox_id": "old",
                "started_at": (BEGAN - timedelta(hours=1)).isoformat(),
                "ended_at": (BEGAN + timedelta(minutes=10)).isoformat(),
            }
        ]
        row.started_at = BEGAN + timedelta(minutes=20)
        first = uow.session.get_one(TrainingRow, made[0])
        first.cost_usd = None
        first.cost_usd = progress.training_cost(uow.session, first, BEGAN)
        assert first.cost_usd == Decimal("5.500000"), "one sandbox was away for ten of thirty minutes"
    migration = importlib.import_module("migrations.versions.0004_training_progress")

    def kept() -> list[tuple[object, ...]]:
        with database.unit_of_work() as uow:
            rows = [uow.session.get_one(TrainingRow, training_id) for training_id in made]
            return [(row.progress, row.worker_progress, row.cost_usd) for row in rows]

    before = kept()
    with database.unit_of_work() as uow:
        uow.session.execute(text("UPDATE trainings SET progress = '{}', worker_progress = '{}', cost_usd = NULL"))
        for statement in (migration._FILL_PROGRESS, migration._FILL_WORKERS, migration._FILL_COST):
            uow.session.execute(text(statement))
    after = kept()
    assert [part[1:] for part in after] == [part[1:] for part in before]
    for (filled, *_), (recorded, *_) in zip(after, before, strict=True):
        assert isinstance(filled, TrainingProgress)
        assert isinstance(recorded, TrainingProgress)
        assert filled.recent_seconds == recorded.recent_seconds
        shown = [figures.model_dump(exclude={"recent_seconds"}) for figures in (filled, recorded)]
        assert shown[0] == pytest.approx(shown[1])

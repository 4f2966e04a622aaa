"""Searches as steps run them, on real rows. One whole search has real agents."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, update

from api.domain.records import FailureReason
from api.domain.stopping import TrainingStop
from api.schemas.searches import Search, SearchCreate
from api.services import clusters, quotas, searches, trainings
from api.store import events, leases, transitions
from api.store.database import Database
from api.store.tables import ClusterRow, NodeRow, ProjectRow, RoundRow, SearchRow, TrainingRow
from tests.api.store.rows import make_cluster, make_node, make_project
from tests.workers.agent import agents
from tests.workers.steps.context import make_context
from tests.workers.steps.live_cluster import LiveCluster
from workers.context import Context
from workers.steps import clusters as cluster_steps
from workers.steps import searches as steps
from workers.steps import sweep
from workers.steps import trainings as training_steps

RATES = [0.1, 0.01, 0.001, 0.0001]


class Lab:
    """A connected cluster of two workers and an aggregator. A test writes its rounds."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.enqueued: list[tuple[str, str]] = []
        self.database = Database(database.engine, lambda step, row_id: self.enqueued.append((step, row_id)))
        self.context: Context = make_context(self.database, folder)
        with self.database.unit_of_work() as uow:
            cluster = make_cluster(uow.session, make_project(uow.session))
            nodes = [make_node(uow.session, cluster, role) for role in ("worker", "worker", "aggregator")]
            for node in nodes:
                node.sandbox_id, node.started_at = f"sbx-{node.id}", func.clock_timestamp()
                transitions.move(uow.session, node, "running")
            self.project_id, self.cluster_id = cluster.project_id, cluster.id
            self.nodes = [node.id for node in nodes]
        with self.database.unit_of_work() as uow:
            clusters.connect(uow, self.project_id, self.cluster_id, "star")
        self.id = ""

    def search(self, **fields: Any) -> Search:
        body = {"dataset": "/data/x.json", "epochs": 4, "space": {"learning_rate": RATES}, **fields}
        spec = SearchCreate.model_validate(body).search_spec()
        with self.database.unit_of_work() as uow:
            self.id = searches.create(uow, self.project_id, self.cluster_id, spec).id
        return self.advance()

    def advance(self) -> Search:
        """Run the search's next step at once. Return the search."""
        with self.database.unit_of_work() as uow:
            row = uow.session.get_one(SearchRow, self.id)
            if row.finished_at is None:
                leases.wake(row)
        steps.advance(self.context, self.id)
        return self.shown()

    def shown(self) -> Search:
        with self.database.unit_of_work() as uow:
            return Search.of(searches.view(uow.session, searches.get(uow.session, self.project_id, self.id)))

    def current(self) -> TrainingRow:
        with self.database.unit_of_work() as uow:
            return uow.session.get_one(TrainingRow, uow.session.get_one(SearchRow, self.id).training_ids[-1])

    def complete_rounds(self, *values: float | None) -> str:
        """Complete a round of the current training for each value. Return the training's id."""
        with self.database.unit_of_work() as uow:
            row = uow.session.get_one(TrainingRow, self.current().id)
            if row.status == "pending":
                row.started_at = func.clock_timestamp()
                transitions.move(uow.session, row, "training")
            for value in values:
                row.completed_rounds += 1
                uow.session.add(
                    RoundRow(
                        training_id=row.id,
                        number=row.completed_rounds,
                        status="completed",
                        base_digest="",
                        seconds=1.0,
                        validation_accuracy=value,
                    )
                )
            return row.id

    def end_training(self, status: str = "completed", error: dict[str, Any] | None = None, **fields: Any) -> Search:
        """End the current training and run the search's next step. Return the search."""
        if error is not None:
            fields["error"] = FailureReason.model_validate(error)
        with self.database.unit_of_work() as uow:
            row = uow.session.get_one(TrainingRow, self.current().id)
            for name, value in {**fields, "finished_at": func.clock_timestamp()}.items():
                setattr(row, name, value)
            transitions.move(uow.session, row, status)
        return self.advance()

    def events(self, prefix: str = "search.") -> list[tuple[str, dict[str, Any]]]:
        with self.database.unit_of_work() as uow:
            rows = events.read(uow.session, self.cluster_id, 0)
            return [(event.type, event.data) for event in rows if event.type.startswith(prefix)]


@pytest.fixture
def lab(database: Database, tmp_path: Path) -> Lab:
    return Lab(database, tmp_path)


def test_trainings_run_one_after_another_and_the_best_is_named(lab: Lab) -> None:
    search = lab.search()
    assert (search.status, [trial.status for trial in search.trials]) == ("running", ["pending", *["waiting"] * 3])
    trained = []
    for accuracy in (0.5, 0.9, 0.7, 0.6):
        trained.append(lab.complete_rounds(0.1, 0.2, 0.3, accuracy))
        search = lab.end_training()
    assert (search.status, search.best_training_id, search.best_metric) == ("completed", trained[1], 0.9)
    assert search.best_options == {"learning_rate": 0.01}
    assert [(trial.training_id, trial.metric, trial.epochs, trial.status) for trial in search.trials] == [
        (training_id, accuracy, 4, "completed") for training_id, accuracy in zip(trained, (0.5, 0.9, 0.7, 0.6), strict=True)
    ]
    with lab.database.unit_of_work() as uow:
        rows = uow.session.scalars(select(TrainingRow).where(TrainingRow.search_id == search.search_id)).all()
        assert {row.id: row.config.learning_rate for row in rows} == dict(zip(trained, RATES, strict=True))
    emitted = lab.events()
    event_types = [event_type for event_type, _ in emitted]
    assert event_types[:4] == ["search.pending", "search.running", "search.trial_started", "search.trial_ended"]
    assert [
        event_types.count(event_type) for event_type in ("search.trial_started", "search.trial_ended", "search.completed")
    ] == [4, 4, 1]
    assert emitted[-1][1]["best_training_id"] == trained[1]


def test_a_step_that_runs_twice_begins_one_training(lab: Lab) -> None:
    lab.search()
    first = lab.current().id
    for _ in range(3):
        lab.advance()
    assert lab.current().id == first
    with lab.database.unit_of_work() as uow:
        row = uow.session.get_one(SearchRow, lab.id)
        assert row.due_at is not None, "it is due again by itself"
        # A worker process was killed in its step. The lease expires and the sweep finds the row.
        leases.wake(row)
        uow.session.flush()
        assert leases.claim(uow.session, SearchRow, row.id, 60) is not None
    steps.advance(lab.context, lab.id)
    lab.complete_rounds(0.5)
    with lab.database.unit_of_work() as uow:
        uow.session.execute(update(SearchRow).values(lease_until=func.clock_timestamp() - timedelta(seconds=1)))
    lab.enqueued.clear()
    sweep.enqueue_due(lab.context)
    assert ("searches.advance", lab.id) in lab.enqueued


def test_workers_that_race_begin_each_training_once(lab: Lab) -> None:
    lab.search()
    lab.complete_rounds(0.5)
    with lab.database.unit_of_work() as uow:
        row = uow.session.get_one(TrainingRow, lab.current().id)
        transitions.move(uow.session, row, "completed")
        searches.wake_search(uow, row)
    with ThreadPoolExecutor(4) as racers:
        for _ in racers.map(lambda _: steps.advance(lab.context, lab.id), range(12)):
            pass
    assert [trial.status for trial in lab.shown().trials] == ["completed", "pending", "waiting", "waiting"]
    assert [event_type for event_type, _ in lab.events()].count("search.trial_started") == 2


def test_losers_are_stopped_and_say_why(lab: Lab) -> None:
    lab.search(early_stopping="median", grace_trainings=2, grace_epochs=2)
    lab.complete_rounds(0.5, 0.6, 0.7, 0.8)
    lab.end_training()
    lab.complete_rounds(0.1)
    assert lab.advance().trials[1].status == "training", "too few to compare with"
    lab.complete_rounds(0.1, 0.1, 0.1)
    lab.end_training()
    # Averages until epoch 2: 0.55 and 0.1; their median is 0.325.
    lab.complete_rounds(0.2)
    assert lab.advance().trials[2].status == "training", "within its grace"
    lab.complete_rounds(0.3)
    trial = lab.advance().trials[2]
    assert (trial.status, trial.stop_reason and trial.stop_reason.code) == ("stopping", "early_stopped")
    assert "is 0.3; the median of 2 earlier trainings' averages until then is 0.325" in str(trial.stop_reason)
    assert ("trainings.interrupt", trial.training_id) in lab.enqueued
    assert lab.advance().trials[2].status == "stopping"
    search = lab.end_training("stopped")
    assert [trial.status for trial in search.trials] == ["completed", "completed", "stopped", "pending"]
    assert (search.trials[2].metric, search.trials[2].epochs) == (0.3, 2)
    lab.complete_rounds(0.4, 0.4, 0.4)
    assert lab.advance().trials[3].status == "training", "as good as the median"
    lab.complete_rounds(0.1)
    assert lab.advance().trials[3].status == "training", "what has trained all its epochs is not stopped"
    search = lab.end_training()
    assert (search.status, search.best_options) == ("completed", {"learning_rate": 0.1})


def test_one_training_that_fails_does_not_fail_the_search(lab: Lab) -> None:
    error = {"code": "quorum_lost", "detail": "all updates were rejected"}
    search = lab.search(space={"learning_rate": [0.1, 0.01]})
    lab.complete_rounds(0.9)
    search = lab.end_training("failed", error=error)
    assert (search.trials[0].error and search.trials[0].error.code, search.trials[1].status) == ("quorum_lost", "pending")
    lab.complete_rounds(0.4)
    search = lab.end_training()
    assert (search.status, search.best_options, search.error) == ("completed", {"learning_rate": 0.01}, None)


def test_a_search_that_has_measured_nothing_fails(lab: Lab) -> None:
    lab.search(space={"learning_rate": [0.1, 0.01]})
    lab.end_training("failed", error={"code": "x", "detail": "y"})
    lab.complete_rounds(None)
    search = lab.end_training()
    assert (search.status, search.error and search.error.code, search.best_training_id) == ("failed", "nothing_measured", None)


def test_data_that_cannot_be_trained_on_ends_the_search_at_once(lab: Lab) -> None:
    lab.search()
    error = {"status": 422, "code": "no_data", "detail": "w1: none", "errors": [{"pointer": "/dataset", "message": "w1: none"}]}
    search = lab.end_training("refused", error=error)
    assert (search.status, search.error and search.error.code) == ("failed", "no_data")
    assert [trial.status for trial in search.trials] == ["refused", *["skipped"] * 3]


def test_options_that_a_model_refuses_cost_only_their_training(lab: Lab) -> None:
    lab.search()
    search = lab.end_training("refused", error={"status": 422, "code": "too_many_layers", "detail": "ps: 9 of 2", "errors": []})
    assert [trial.status for trial in search.trials[:2]] == ["refused", "pending"]


def test_a_training_that_a_user_stops_is_passed_over(lab: Lab) -> None:
    lab.search()
    training_id = lab.complete_rounds(0.5)
    with lab.database.unit_of_work() as uow:
        trainings.stop(uow, lab.project_id, training_id)
    search = lab.end_training("stopped")
    assert [trial.status for trial in search.trials[:2]] == ["stopped", "pending"]


def test_a_stopped_search_begins_no_further_training(lab: Lab) -> None:
    lab.search()
    lab.complete_rounds(0.5)
    with lab.database.unit_of_work() as uow:
        searches.stop(uow, lab.project_id, lab.id)
    assert lab.advance().status == "stopping"
    search = lab.end_training("stopped")
    assert (search.status, [trial.status for trial in search.trials]) == ("stopped", ["stopped", *["skipped"] * 3])
    assert search.best_metric == 0.5


def test_a_search_that_is_stopped_before_its_first_step(lab: Lab) -> None:
    body = {"dataset": "/data/x.json", "epochs": 4, "space": {"learning_rate": RATES}}
    with lab.database.unit_of_work() as uow:
        spec = SearchCreate.model_validate(body).search_spec()
        lab.id = searches.create(uow, lab.project_id, lab.cluster_id, spec).id
        searches.stop(uow, lab.project_id, lab.id)
    search = lab.advance()
    assert (search.status, search.best_training_id) == ("stopped", None)
    assert {trial.training_id for trial in search.trials} == {None}


def test_the_budget_and_the_time_are_the_whole_searchs(lab: Lab) -> None:
    lab.search(budget_usd=1.0, max_minutes=10.0)
    assert lab.current().config.budget_usd == 1.0
    minutes = lab.current().config.max_minutes
    assert minutes is not None
    assert 9.9 < minutes <= 10.0
    lab.complete_rounds(0.5)
    # Three nodes at 0.05 USD a minute for two minutes.
    _age(lab, minutes=2)
    lab.end_training()
    assert lab.current().config.budget_usd == pytest.approx(0.7, abs=0.02)
    assert lab.current().config.max_minutes == pytest.approx(8.0, abs=0.1)
    lab.complete_rounds(0.6)
    reason = TrainingStop(code="budget_spent", detail="It is spent.")
    search = lab.end_training(stop_reason=reason)
    assert (search.status, search.stop_reason and search.stop_reason.code) == ("completed", "budget_spent")
    assert [trial.status for trial in search.trials] == ["completed", "completed", "skipped", "skipped"]
    assert search.cost_usd == pytest.approx(0.3, abs=0.02)
    assert search.best_metric == 0.6


@pytest.mark.parametrize(("limits", "code"), [({"budget_usd": 0.31}, "budget_spent"), ({"max_minutes": 2.01}, "time_over")])
def test_no_training_begins_whose_first_round_would_overrun(lab: Lab, limits: dict[str, float], code: str) -> None:
    lab.search(**limits)
    lab.complete_rounds(0.5)
    _age(lab, minutes=2)
    with lab.database.unit_of_work() as uow:
        uow.session.execute(update(RoundRow).where(RoundRow.training_id == lab.current().id).values(seconds=30.0))
    search = lab.end_training()
    assert (search.status, search.stop_reason and search.stop_reason.code) == ("completed", code)


def test_a_spent_quota_ends_the_search_and_says_so(lab: Lab) -> None:
    lab.search()
    lab.complete_rounds(0.5)
    _age(lab, minutes=2)
    with lab.database.unit_of_work() as uow:
        name = uow.session.get_one(ProjectRow, lab.project_id).name
        quotas.override(uow.session, name, {"spend_usd": 0.1})
    search = lab.end_training()
    assert (search.status, search.stop_reason and search.stop_reason.code) == ("completed", "quota_exceeded")


def _age(lab: Lab, minutes: float) -> None:
    age = timedelta(minutes=minutes)
    with lab.database.unit_of_work() as uow:
        for table in (SearchRow, TrainingRow, NodeRow):
            uow.session.execute(
                update(table).where(table.cluster_id == lab.cluster_id).values(started_at=table.started_at - age)
            )


def test_the_next_training_waits_for_nodes_that_come_back(lab: Lab) -> None:
    lab.search()
    lab.complete_rounds(0.5)
    _move(lab, lab.nodes[0], "lost", due=True)
    assert [trial.status for trial in lab.end_training().trials[:2]] == ["completed", "waiting"]
    assert lab.advance().trials[1].status == "waiting"
    _move(lab, lab.nodes[0], "running")
    assert lab.advance().trials[1].status == "pending"
    assert len(lab.current().workers) == 2
    lab.complete_rounds(0.5)
    _move(lab, lab.nodes[0], "lost")
    assert lab.end_training().trials[2].status == "pending"
    assert lab.current().workers == [lab.nodes[1]], "what is gone for good is not waited for"
    _move(lab, lab.nodes[1], "lost")
    search = lab.end_training("failed", error={"code": "quorum_lost", "detail": "d"})
    assert (search.status, search.error and search.error.code) == ("failed", "no_workers")
    assert [event_type for event_type, _ in lab.events()].count("search.trial_ended") == 3


def _move(lab: Lab, node_id: str, status: str, *, due: bool = False) -> None:
    with lab.database.unit_of_work() as uow:
        node = uow.session.get_one(NodeRow, node_id)
        transitions.move(uow.session, node, status)
        node.due_at = func.clock_timestamp() if due else None


def test_a_node_that_joins_meanwhile_is_left_out(lab: Lab) -> None:
    lab.search()
    with lab.database.unit_of_work() as uow:
        cluster = uow.session.get_one(ClusterRow, lab.cluster_id)
        node = make_node(uow.session, cluster, id="w9_new", sandbox_id="sbx-w9_new")
        transitions.move(uow.session, node, "running")
    lab.complete_rounds(0.5)
    assert lab.end_training().trials[1].status == "pending"
    assert set(lab.current().workers) == set(lab.nodes[:2])


def test_a_cluster_ends_after_its_search(lab: Lab) -> None:
    lab.search()
    lab.complete_rounds(0.5)
    with lab.database.unit_of_work() as uow:
        clusters.terminate(uow, lab.project_id, lab.cluster_id)
    with lab.database.unit_of_work() as uow:
        for node in uow.session.scalars(select(NodeRow).where(NodeRow.cluster_id == lab.cluster_id)):
            transitions.move(uow.session, node, "terminated")
        training = uow.session.get_one(TrainingRow, lab.current().id)
        transitions.move(uow.session, training, "stopped")
    cluster_steps.advance(lab.context, lab.cluster_id)
    assert lab.events("cluster.")[-1][0] == "cluster.terminating"
    lab.enqueued.clear()
    assert lab.advance().status == "stopped"
    assert ("clusters.advance", lab.cluster_id) in lab.enqueued
    cluster_steps.advance(lab.context, lab.cluster_id)
    assert lab.events("cluster.")[-1][0] == "cluster.terminated"


def test_a_resumed_training_does_not_wake_a_search_that_has_ended(lab: Lab) -> None:
    lab.search(space={"learning_rate": [0.1]})
    training_id = lab.complete_rounds(0.5)
    assert lab.end_training("stopped").status == "completed"
    with lab.database.unit_of_work() as uow:
        training = trainings.resume(uow, lab.project_id, training_id)
        searches.wake_search(uow, training)
        assert uow.session.get_one(SearchRow, lab.id).due_at is None
    assert Decimal(str(lab.shown().cost_usd)) >= 0


def test_a_whole_search_with_real_agents(live: LiveCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hopeless learning rate is stopped early, and one that diverges fails by itself.

    The better ones are compared.
    """
    live.connect("star")
    enqueued: list[tuple[str, str]] = []
    monkeypatch.setattr(live.database, "_dispatcher", lambda step, row_id: enqueued.append((step, row_id)))
    body = {
        "dataset": agents.DATASET,
        "epochs": 3,
        "batch_size": 8,
        "max_length": 16,
        "metric": "global_loss",
        "early_stopping": "median",
        "grace_trainings": 2,
        "space": {"learning_rate": [0.001, 0.003, 0.1, 10.0]},
    }
    with live.database.unit_of_work() as uow:
        spec = SearchCreate.model_validate(body).search_spec()
        search_id = searches.create(uow, live.project_id, live.cluster_id, spec).id
    steps_by_name: dict[str, Callable[[Context, str], None]] = {
        "searches.advance": steps.advance,
        "trainings.advance": training_steps.advance,
        "trainings.interrupt": training_steps.interrupt,
    }
    # What Celery does: it runs the steps in the order in which they were enqueued.
    for _ in range(200):
        if not enqueued:
            break
        step, row_id = enqueued.pop(0)
        steps_by_name[step](live.context, row_id)
    with live.database.unit_of_work() as uow:
        search = Search.of(searches.view(uow.session, searches.get(uow.session, live.project_id, search_id)))
    assert search.status == "completed", search.error
    assert [trial.status for trial in search.trials] == ["completed", "completed", "stopped", "failed"]
    assert [trial.epochs for trial in search.trials[:2]] == [3, 3]
    stopped_trial = search.trials[2]
    assert (stopped_trial.epochs < 3, stopped_trial.stop_reason and stopped_trial.stop_reason.code) == (True, "early_stopped")
    assert (search.trials[3].metric, search.trials[3].error is not None) == (None, True)
    losses = [trial.metric for trial in search.trials]
    assert search.best_metric == min(losses[:2])  # type: ignore[type-var]
    assert losses[2] is not None
    assert search.best_metric is not None
    assert losses[2] > search.best_metric
    stopped = [event for event in live.events("training.stopped") if event["training_id"] == stopped_trial.training_id]
    assert stopped[0]["stop_reason"]["code"] == "early_stopped"

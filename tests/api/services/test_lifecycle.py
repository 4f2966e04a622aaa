"""Use cases on a real database: what is allowed in which status, and which steps are enqueued."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import func, select

from api.domain.errors import ConflictError, DomainError, NotFoundError
from api.domain.specs import ClusterSpec, NodeSpec, PredictionSpec, Role
from api.domain.steps import Step
from api.domain.training_spec import TrainingSpec
from api.services import clusters, models, nodes, predictions, progress, sandboxes, trainings
from api.services.pages import PageRequest
from api.settings import Settings
from api.store import transitions
from api.store.database import Database, UnitOfWork
from api.store.documents import ConnectionDocument
from api.store.tables import ClusterRow, NodeRow, TrainingRow
from tests.api.store.rows import make_project

CLUSTER = ClusterSpec("c", "mesh", "transformer", daa_enabled=False, consensus="none", wasm_optimization=False)
TRAINING = TrainingSpec(dataset="/data/*.json", epochs=10, schedule="constant")


def node_spec(role: Role = "worker", model: str = "base") -> NodeSpec:
    kind = {"worker": "worker", "aggregator": "parameter_server", "validator": "validator"}[role]
    capabilities = ("aggregation",) if role == "aggregator" else ("training", "inference")
    return NodeSpec(kind, role, model, "python", 0.5, capabilities)  # type: ignore[arg-type]


@pytest.fixture
def settings(postgres_url: str, tmp_path: Path) -> Settings:
    return Settings(
        database_url=postgres_url, redis_url="redis://", secret_key="s" * 32, models_dir=tmp_path, E2B_API_KEY="e2b_0"
    )


class User:
    """The use cases of one project, each in its own unit of work. `enqueued` collects the enqueued
    steps.
    """

    def __init__(self, database: Database, settings: Settings) -> None:
        self.enqueued: list[tuple[str, str]] = []
        self.database = Database(database.engine, lambda step, row_id: self.enqueued.append((step, row_id)))
        self.settings = settings
        with self.work() as uow:
            self.project = make_project(uow.session)

    @contextmanager
    def work(self) -> Iterator[UnitOfWork]:
        with self.database.unit_of_work() as uow:
            yield uow

    def cluster(self) -> str:
        with self.work() as uow:
            return clusters.create(uow, self.settings, self.project, CLUSTER).id

    def deploy(self, cluster_id: str, role: Role = "worker", *, up: bool = True, model: str = "base") -> str:
        with self.work() as uow:
            node = nodes.deploy(uow, self.settings, self.project, cluster_id, node_spec(role, model))
            if up:
                node.sandbox_id = f"sbx-{node.id}"
                transitions.move(uow.session, node, "running")
            return node.id

    def connect(self, cluster_id: str) -> list[ConnectionDocument]:
        with self.work() as uow:
            return clusters.connect(uow, self.project, cluster_id, None).connections

    def train(self, cluster_id: str) -> str:
        with self.work() as uow:
            return trainings.start(uow, self.project, cluster_id, TRAINING).id

    def ready(self, workers: int = 2) -> str:
        cluster_id = self.cluster()
        for _ in range(workers):
            self.deploy(cluster_id)
        self.deploy(cluster_id, "aggregator")
        self.connect(cluster_id)
        return cluster_id


@pytest.fixture
def user(database: Database, settings: Settings) -> User:
    return User(database, settings)


def refused(call: object, *arguments: object) -> str:
    with pytest.raises(DomainError) as caught:
        call(*arguments)  # type: ignore[operator]
    return caught.value.code


def test_deploy_asks_a_worker_for_a_step(user: User) -> None:
    node_id = user.deploy(user.cluster(), up=False)
    assert (Step.NODES_ADVANCE, node_id) in user.enqueued
    assert node_id.startswith("node_w1_")


def test_connect_waits_for_nodes_that_start(user: User) -> None:
    cluster_id = user.cluster()
    assert refused(user.connect, cluster_id) == "no_workers"
    user.deploy(cluster_id, up=False)
    assert refused(user.connect, cluster_id) == "nodes_not_ready"


def test_training_says_what_is_missing(user: User) -> None:
    cluster_id = user.cluster()
    assert refused(user.train, cluster_id) == "no_workers"
    user.deploy(cluster_id)
    assert refused(user.train, cluster_id) == "no_aggregator"
    user.deploy(cluster_id, "aggregator")
    assert refused(user.train, cluster_id) == "not_connected"
    user.connect(cluster_id)
    late = user.deploy(cluster_id)
    with pytest.raises(ConflictError, match=late):
        user.train(cluster_id)
    user.connect(cluster_id)
    user.train(cluster_id)
    assert refused(user.train, cluster_id) == "training_active"


def test_a_second_aggregator_is_refused(user: User) -> None:
    cluster_id = user.cluster()
    user.deploy(cluster_id, "aggregator")
    assert refused(user.deploy, cluster_id, "aggregator") == "aggregator_exists"


def test_a_node_in_use_stays(user: User) -> None:
    cluster_id = user.ready()
    user.train(cluster_id)
    with user.work() as uow:
        worker = uow.session.scalars(select(NodeRow.id).where(NodeRow.cluster_id == cluster_id)).first()
    assert worker is not None
    with pytest.raises(ConflictError), user.work() as uow:
        nodes.remove(uow, user.project, worker)


def test_terminate_stops_what_runs_and_may_be_asked_twice(user: User) -> None:
    cluster_id = user.ready()
    training_id = user.train(cluster_id)
    user.enqueued.clear()
    for _ in range(2):
        with user.work() as uow:
            assert clusters.terminate(uow, user.project, cluster_id).status == "terminating"
    assert sum(step == Step.NODES_TERMINATE for step, _ in user.enqueued) == 3
    with user.work() as uow:
        assert uow.session.get_one(TrainingRow, training_id).status == "stopping"
    assert refused(user.deploy, cluster_id) == "cluster_terminated"


def test_stop_and_resume(user: User) -> None:
    cluster_id = user.ready()
    training_id = user.train(cluster_id)
    for _ in range(2):
        with user.work() as uow:
            assert trainings.stop(uow, user.project, training_id).status == "stopping"
    with user.work() as uow:
        transitions.move(uow.session, uow.session.get_one(TrainingRow, training_id), "stopped")
    with user.work() as uow:
        assert trainings.resume(uow, user.project, training_id).status == "pending"
    assert (Step.TRAININGS_INTERRUPT, training_id) in user.enqueued


def test_without_a_finished_round_there_is_no_model(user: User) -> None:
    cluster_id = user.ready()
    training_id = user.train(cluster_id)
    spec = PredictionSpec("global", ("text",), None, None)
    with pytest.raises(ConflictError) as caught, user.work() as uow:
        predictions.start(uow, user.project, cluster_id, spec)
    assert caught.value.code == "no_model"
    with pytest.raises(ConflictError), user.work() as uow:
        models.export(uow, user.project, training_id, "m")


def test_another_project_sees_nothing(user: User, database: Database, settings: Settings) -> None:
    cluster_id = user.ready()
    stranger = User(database, settings)
    with pytest.raises(NotFoundError), stranger.work() as uow:
        clusters.terminate(uow, stranger.project, cluster_id)
    with stranger.work() as uow:
        assert clusters.page(uow.session, stranger.project, PageRequest(10)).items == []


def test_pages_cover_every_row_once(user: User) -> None:
    cluster_ids = {user.cluster() for _ in range(7)}
    seen: list[str] = []
    after = None
    while True:
        with user.work() as uow:
            page = clusters.page(uow.session, user.project, PageRequest(3, after))
        seen += [row.id for row in page.items]
        after = page.next
        if after is None:
            break
    assert len(seen) == len(cluster_ids)
    assert set(seen) == cluster_ids


def test_status_before_any_round_is_zero_and_null(user: User) -> None:
    cluster_id = user.ready()
    user.train(cluster_id)
    with user.work() as uow:
        view = progress.cluster_status(uow.session, user.project, cluster_id)
        assert uow.session.get(ClusterRow, cluster_id) is not None
    (session,) = view.sessions
    assert (session.epoch, session.total_epochs) == (0, 10)
    assert isinstance(session, progress.SessionView)
    metrics = (session.figures.global_loss, session.figures.global_accuracy, session.figures.validation_accuracy)
    assert (*metrics, session.figures.convergence_rate) == (None,) * 4
    assert session.remaining_seconds is None
    assert all(worker.local_loss is None for worker in session.workers.values())


def _lose(user: User, *node_ids: str) -> None:
    """End the nodes' sandboxes for good."""
    with user.work() as uow:
        for node_id in node_ids:
            node = uow.session.get_one(NodeRow, node_id)
            transitions.move(uow.session, node, "lost")
            node.due_at = None


def _nodes(user: User, cluster_id: str, role: str) -> list[str]:
    with user.work() as uow:
        return list(uow.session.scalars(select(NodeRow.id).where(NodeRow.cluster_id == cluster_id, NodeRow.role == role)))


def _trained(user: User, cluster_id: str) -> str:
    training_id = user.train(cluster_id)
    with user.work() as uow:
        training = uow.session.get_one(TrainingRow, training_id)
        training.completed_rounds, training.digest = 1, "d"
        transitions.move(uow.session, training, "stopped")
    return training_id


@pytest.mark.parametrize("role", ["worker", "aggregator"])
def test_lost_nodes_are_named_with_the_request_that_brings_them_back(user: User, role: str) -> None:
    cluster_id = user.ready()
    training_id = _trained(user, cluster_id)
    lost = _nodes(user, cluster_id, role)
    _lose(user, *lost)

    def resume() -> None:
        with user.work() as uow:
            trainings.resume(uow, user.project, training_id)

    def predict() -> None:
        with user.work() as uow:
            predictions.start(uow, user.project, cluster_id, PredictionSpec("ensemble", ("a",), None, None))

    def export() -> None:
        with user.work() as uow:
            models.export(uow, user.project, training_id, "m")

    calls = [lambda: user.train(cluster_id), resume, predict, *([export] if role == "aggregator" else [])]
    for call in calls:
        with pytest.raises(ConflictError) as caught:
            call()
        assert caught.value.code == f"no_{'workers' if role == 'worker' else 'aggregator'}"
        assert all(node_id in caught.value.detail for node_id in lost)
        assert f"POST /v1/nodes/{lost[0]}/redeploy" in caught.value.detail
        assert f"flow-nexus neural node redeploy {lost[0]}" in caught.value.detail


def test_a_node_that_comes_back_by_itself_is_waited_for(user: User) -> None:
    cluster_id = user.ready()
    _trained(user, cluster_id)
    with user.work() as uow:
        for node_id in _nodes(user, cluster_id, "worker"):
            transitions.move(uow.session, uow.session.get_one(NodeRow, node_id), "lost")
            uow.session.get_one(NodeRow, node_id).due_at = func.clock_timestamp()
    with user.work() as uow:
        spec = PredictionSpec("ensemble", ("a",), None, None)
        assert predictions.start(uow, user.project, cluster_id, spec).status == "pending"


def test_a_call_to_a_lost_sandbox_says_how_it_comes_back(user: User) -> None:
    cluster_id = user.ready()
    worker = _nodes(user, cluster_id, "worker")[0]
    _lose(user, worker)
    with user.work() as uow, pytest.raises(ConflictError, match=f"POST /v1/nodes/{worker}/redeploy"):
        sandboxes.running_sandbox_id(uow.session.get_one(NodeRow, worker))

"""Elections of an aggregator: when they happen, and how a training without an elected one ends."""

from pathlib import Path

import pytest

from api.store import events, leases, transitions
from api.store.database import Database
from api.store.tables import NodeRow, TrainingRow
from tests.api.store.rows import CLUSTER_SETTINGS, make_cluster, make_node, make_project, make_training
from tests.workers.steps.context import make_context
from workers.context import Context
from workers.steps.rounds import run
from workers.steps.shared import elections
from workers.steps.shared.training_snapshot import load


@pytest.fixture
def context(database: Database, tmp_path: Path) -> Context:
    return make_context(database, tmp_path)


def a_training(context: Context, status: str = "training", **config: object) -> tuple[str, str]:
    """Return a training of three workers that do not answer. Its aggregator is lost for good."""
    with context.database.unit_of_work() as uow:
        cluster = make_cluster(uow.session, make_project(uow.session))
        cluster.config = CLUSTER_SETTINGS.model_copy(update={"consensus": "raft", **config})
        aggregator = make_node(uow.session, cluster, "aggregator", sandbox_id=f"{cluster.id}ps")
        workers = [
            make_node(uow.session, cluster, id=f"{cluster.id}w{number}", sandbox_id=f"{cluster.id}w{number}")
            for number in (1, 2, 3)
        ]
        for node in (aggregator, *workers):
            transitions.move(uow.session, node, "running")
        transitions.move(uow.session, aggregator, "lost")
        training = make_training(uow.session, cluster, aggregator, status)
        training.workers = [worker.id for worker in workers]
        leases.wake(training)
        return training.id, aggregator.id


def electing_training(context: Context, node_id: str) -> str | None:
    with context.database.unit_of_work() as uow:
        return elections.training_that_elects(uow.session, uow.session.get_one(NodeRow, node_id))


def test_only_a_running_training_of_a_raft_cluster_elects(context: Context) -> None:
    training_id, aggregator_id = a_training(context)
    assert electing_training(context, aggregator_id) == training_id
    others = [
        a_training(context, consensus="none"),
        a_training(context, "completed"),
        a_training(context, "pending"),
    ]
    for _, other_aggregator_id in others:
        assert electing_training(context, other_aggregator_id) is None


def test_a_training_without_a_majority_of_votes_fails_and_says_so(context: Context) -> None:
    training_id, aggregator_id = a_training(context)
    with context.database.unit_of_work() as uow:
        claim = leases.claim(uow.session, TrainingRow, training_id, 60)
        assert claim is not None
        snapshot = load(uow.session, leases.held(uow.session, TrainingRow, training_id, claim.token))
    run.run(context, snapshot, claim.token)
    with context.database.unit_of_work() as uow:
        training = uow.session.get_one(TrainingRow, training_id)
        assert training.status == "failed"
        assert training.error is not None
        assert training.error.code == "no_majority"
        assert (training.aggregator_id, training.term, training.former_aggregators) == (aggregator_id, 1, [])
        event_types = [event.type for event in events.read(uow.session, training.cluster_id, 0)]
        assert "training.aggregator_promoted" not in event_types

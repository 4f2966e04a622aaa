"""Nodes whose sandbox is gone, on a real sandbox host."""

import uuid
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func

from api.domain.errors import ConflictError
from api.domain.specs import PredictionInput
from api.services import nodes as node_service
from api.services import spending
from api.store import events, leases, transitions
from api.store.database import Database
from api.store.tables import ClusterRow, NodeRow, PredictionRow
from tests.api.store.rows import make_cluster, make_node, make_project, make_training
from tests.workers.sandboxes.hosting import API_KEY, Host, run, spec
from tests.workers.steps.context import make_context
from workers import metrics
from workers.context import Context
from workers.steps import nodes, predictions, sweep


@pytest.fixture
def context(database: Database, host: Host, tmp_path: Path) -> Context:
    return make_context(database, tmp_path, E2B_API_KEY=API_KEY, E2B_API_URL=host.url, E2B_SANDBOX_URL=host.url)


def a_node(context: Context, role: str, former: int = 0) -> str:
    """A running node whose sandbox has just ended, after two minutes."""
    sandbox = run(context.provider.create(spec(uuid.uuid4().hex)))
    with context.database.unit_of_work() as uow:
        node = make_node(uow.session, make_cluster(uow.session, make_project(uow.session)), role)
        node.sandbox_id = sandbox.sandbox_id
        node.started_at = func.clock_timestamp() - timedelta(minutes=2)
        node.former_sandboxes = [
            {"sandbox_id": f"sbx{number}", "started_at": "2026-01-01T00:00:00+00:00", "ended_at": "2026-01-01T00:01:00+00:00"}
            for number in range(former)
        ]
        transitions.move(uow.session, node, "running")
    run(context.provider.kill(sandbox.sandbox_id))
    return node.id


def read_node(context: Context, node_id: str) -> NodeRow:
    with context.database.unit_of_work() as uow:
        return uow.session.get_one(NodeRow, node_id)


def node_events(context: Context, node: NodeRow) -> list[str]:
    with context.database.unit_of_work() as uow:
        return [event.type for event in events.read(uow.session, node.cluster_id, 0) if event.type.startswith("node.")]


def test_an_aggregator_gets_a_new_sandbox_under_its_own_id(context: Context) -> None:
    node_id = a_node(context, "aggregator")
    old = read_node(context, node_id).sandbox_id
    counters = (metrics.SWEPT_SANDBOXES.labels("missing"), metrics.NODES_LOST)
    before = [counter._value.get() for counter in counters]
    sweep.reconcile(context)
    assert [counter._value.get() for counter in counters] == [count + 1 for count in before]
    nodes.mark_lost(context, node_id, "again")
    assert metrics.NODES_LOST._value.get() == before[1] + 1, "it is lost already"
    assert read_node(context, node_id).status == "lost"
    nodes.advance(context, node_id)
    node = read_node(context, node_id)
    assert (node.status, node.sandbox_id) == ("provisioning", None)
    assert [former["sandbox_id"] for former in node.former_sandboxes] == [old]
    assert node_events(context, node)[-4:] == ["node.lost", "node.gone", "node.provisioning", "node.files_lost"]
    with context.database.unit_of_work() as uow:
        assert node_id in leases.due(uow.session, NodeRow)
        now = uow.session.scalar(func.clock_timestamp())
        assert now is not None
        # Two minutes of the former sandbox, at 0.05 USD a minute.
        assert 0.1 <= float(spending.total([node], now)) < 0.12


def test_a_worker_stays_lost_until_its_owner_asks(context: Context) -> None:
    node_id = a_node(context, "worker")
    nodes.mark_lost(context, node_id, "test")
    nodes.advance(context, node_id)
    node = read_node(context, node_id)
    assert (node.status, node.due_at) == ("lost", None)
    assert node.error is not None
    assert "upload its data again" in node.error.detail
    for _ in range(2):
        with context.database.unit_of_work() as uow:
            assert node_service.redeploy(uow, context.settings, node.project_id, node_id).status == "provisioning"
    assert node_events(context, node).count("node.files_lost") == 1


def test_a_node_that_has_its_sandbox_is_not_redeployed(context: Context) -> None:
    node_id = a_node(context, "worker")
    with pytest.raises(ConflictError) as caught, context.database.unit_of_work() as uow:
        node_service.redeploy(uow, context.settings, read_node(context, node_id).project_id, node_id)
    assert caught.value.code == "node_not_lost"


def test_an_aggregator_that_dies_over_and_over_is_given_up(context: Context) -> None:
    node_id = a_node(context, "aggregator", former=5)
    nodes.mark_lost(context, node_id, "test")
    nodes.advance(context, node_id)
    node = read_node(context, node_id)
    assert (node.status, node.due_at) == ("lost", None)


def test_a_lost_node_whose_end_was_asked_for_meanwhile_is_only_ended(context: Context) -> None:
    node_id = a_node(context, "aggregator")
    nodes.mark_lost(context, node_id, "test")
    with context.database.unit_of_work() as uow:
        transitions.move(uow.session, uow.session.get_one(NodeRow, node_id), "terminating")
    nodes.advance(context, node_id)
    nodes.terminate(context, node_id)
    assert read_node(context, node_id).status == "terminated"


def test_a_prediction_waits_for_an_aggregator_that_comes_back(context: Context) -> None:
    node_id = a_node(context, "aggregator")
    nodes.mark_lost(context, node_id, "test")
    with context.database.unit_of_work() as uow:
        node = uow.session.get_one(NodeRow, node_id)
        cluster = uow.session.get_one(ClusterRow, node.cluster_id)
        row = PredictionRow(
            id=f"pred_{node_id}",
            project_id=node.project_id,
            cluster_id=node.cluster_id,
            training_id=make_training(uow.session, cluster, node, "completed").id,
            status="pending",
            aggregation="global",
            request=PredictionInput(inputs=("text",)),
            due_at=func.clock_timestamp(),
        )
        transitions.created(uow.session, row)
    predictions.advance(context, row.id)
    with context.database.unit_of_work() as uow:
        prediction = uow.session.get_one(PredictionRow, row.id)
        assert (prediction.status, prediction.due_at is not None) == ("pending", True)
        # The node is lost for good.
        uow.session.get_one(NodeRow, node_id).due_at = None
        leases.wake(prediction)
    predictions.advance(context, row.id)
    with context.database.unit_of_work() as uow:
        assert uow.session.get_one(PredictionRow, row.id).status == "failed"


def test_a_minute_is_enough_to_find_an_orphan(context: Context) -> None:
    longest = sweep.ORPHAN_AGE + timedelta(seconds=context.settings.reconcile_interval_s)
    assert longest < timedelta(minutes=1)

"""An agent that dies each time it does the same work is given up, with the reason."""

from sqlalchemy import func

from api.domain.records import FailureReason
from api.domain.specs import PredictionSpec
from api.services import predictions
from api.store import transitions
from api.store.tables import NodeRow, PredictionRow, TrainingRow
from tests.workers.steps.live_cluster import LiveCluster
from workers.steps import predictions as prediction_steps
from workers.steps import trainings as training_steps

_NOWHERE = "/nobody/listens/here.sock"


def _restart(live: LiveCluster, node_id: str) -> None:
    """Bring a lost node back, as its own step does."""
    with live.database.unit_of_work() as uow:
        node = uow.session.get_one(NodeRow, node_id)
        if node.status == "lost":
            transitions.move(uow.session, node, "running")


def _train_with_dying(live: LiveCluster, training_id: str, node_id: str) -> tuple[str, FailureReason | None]:
    for _ in range(8):
        with live.database.unit_of_work() as uow:
            uow.session.get_one(TrainingRow, training_id).due_at = func.clock_timestamp()
        training_steps.advance(live.context, training_id)
        _restart(live, node_id)
    with live.database.unit_of_work() as uow:
        row = uow.session.get_one(TrainingRow, training_id)
        return row.status, row.error


def test_a_worker_that_dies_at_the_check_of_its_data_ends_the_training(live: LiveCluster) -> None:
    live.connect("star")
    training_id, worker = live.begin(epochs=1), live.workers[0]
    live.sockets.paths[worker] = _NOWHERE
    status, error = _train_with_dying(live, training_id, worker)
    assert (status, error and error.code) == ("failed", "agent_died")
    assert error is not None
    assert worker in error.detail
    assert "limit_hits: memory" in error.detail


def test_an_aggregator_that_dies_in_every_round_ends_the_training(live: LiveCluster) -> None:
    live.connect("star")
    training_id = live.begin(epochs=1)
    training_steps.advance(live.context, training_id)
    live.sockets.paths[live.aggregator] = _NOWHERE
    status, error = _train_with_dying(live, training_id, live.aggregator)
    assert (status, error and error.code) == ("failed", "agent_died")
    assert error is not None
    assert "round 1" in error.detail


def test_an_aggregator_that_dies_in_every_prediction_ends_it(live: LiveCluster) -> None:
    live.connect("star")
    assert live.train(epochs=1)[0] == "completed"
    with live.database.unit_of_work() as uow:
        for name in live.workers:
            uow.session.get_one(NodeRow, name).capabilities = ["training", "inference"]
        spec = PredictionSpec("global", ("a text",), None, None)
        prediction_id = predictions.start(uow, live.project_id, live.cluster_id, spec).id
    live.sockets.paths[live.aggregator] = _NOWHERE
    for _ in range(5):
        with live.database.unit_of_work() as uow:
            uow.session.get_one(PredictionRow, prediction_id).due_at = func.clock_timestamp()
        prediction_steps.advance(live.context, prediction_id)
        _restart(live, live.aggregator)
    with live.database.unit_of_work() as uow:
        row = uow.session.get_one(PredictionRow, prediction_id)
        assert row.status == "failed"
        assert row.error is not None
        assert row.error.code == "agent_died"
        assert "limit_hits: memory" in row.error.detail

"""A prediction waits for nodes that do not answer. Their steps bring them back."""

from api.domain.specs import PredictionSpec
from api.services import predictions
from api.store import transitions
from api.store.tables import NodeRow, PredictionRow
from tests.workers.steps.live_cluster import LiveCluster
from workers.steps import predictions as steps


def test_an_aggregator_that_does_not_answer_is_marked_lost_and_waited_for(live: LiveCluster) -> None:
    _waits_for(live, [live.aggregator])


def test_workers_that_do_not_answer_are_marked_lost_and_waited_for(live: LiveCluster) -> None:
    _waits_for(live, live.workers)


def _waits_for(live: LiveCluster, names: list[str]) -> None:
    live.connect("star")
    assert live.train(epochs=1)[0] == "completed"
    with live.database.unit_of_work() as uow:
        for name in live.workers:
            uow.session.get_one(NodeRow, name).capabilities = ["training", "inference"]
        spec = PredictionSpec("global", ("a text",), None, None)
        prediction_id = predictions.start(uow, live.project_id, live.cluster_id, spec).id
    paths = dict(live.sockets.paths)
    live.sockets.paths.update(dict.fromkeys(names, "/nobody/listens/here.sock"))
    for _ in range(6):
        _due(live, prediction_id)
        steps.advance(live.context, prediction_id)
        assert _status(live, prediction_id) == "pending", _error(live, prediction_id)
    live.sockets.paths.update(paths)
    with live.database.unit_of_work() as uow:
        for name in names:
            node = uow.session.get_one(NodeRow, name)
            assert node.status == "lost"
            transitions.move(uow.session, node, "running")
    _due(live, prediction_id)
    steps.advance(live.context, prediction_id)
    assert _status(live, prediction_id) == "completed"


def _due(live: LiveCluster, prediction_id: str) -> None:
    with live.database.unit_of_work() as uow:
        row = uow.session.get_one(PredictionRow, prediction_id)
        row.due_at = row.created_at


def _status(live: LiveCluster, prediction_id: str) -> str:
    with live.database.unit_of_work() as uow:
        return uow.session.get_one(PredictionRow, prediction_id).status


def _error(live: LiveCluster, prediction_id: str) -> object:
    with live.database.unit_of_work() as uow:
        return uow.session.get_one(PredictionRow, prediction_id).error

"""A prediction whose nodes do not answer has them brought back, and is made then."""

from api.domain.specs import PredictionSpec
from api.services import predictions
from api.store import transitions
from api.store.tables import NodeRow, PredictionRow
from tests.workers.steps.house import House
from workers.steps import predictions as steps


def test_an_aggregator_that_does_not_answer_is_marked_lost_and_waited_for(house: House) -> None:
    _waits_for(house, [house.aggregator])


def test_workers_that_do_not_answer_are_marked_lost_and_waited_for(house: House) -> None:
    _waits_for(house, house.workers)


def _waits_for(house: House, names: list[str]) -> None:
    house.connect("star")
    assert house.train(epochs=1)[0] == "completed"
    with house.database.unit_of_work() as uow:
        for name in house.workers:
            uow.session.get_one(NodeRow, name).capabilities = ["training", "inference"]
        spec = PredictionSpec("global", ("a text",), None, None)
        prediction_id = predictions.start(uow, house.project_id, house.cluster_id, spec).id
    places = dict(house.sockets.places)
    house.sockets.places.update(dict.fromkeys(names, "/nobody/listens/here.sock"))
    for _ in range(6):
        _due(house, prediction_id)
        steps.advance(house.context, prediction_id)
        assert _status(house, prediction_id) == "pending", _error(house, prediction_id)
    house.sockets.places.update(places)
    with house.database.unit_of_work() as uow:
        for name in names:
            node = uow.session.get_one(NodeRow, name)
            assert node.status == "lost"
            transitions.move(uow.session, node, "running")
    _due(house, prediction_id)
    steps.advance(house.context, prediction_id)
    assert _status(house, prediction_id) == "completed"


def _due(house: House, prediction_id: str) -> None:
    with house.database.unit_of_work() as uow:
        row = uow.session.get_one(PredictionRow, prediction_id)
        row.due_at = row.created_at


def _status(house: House, prediction_id: str) -> str:
    with house.database.unit_of_work() as uow:
        return uow.session.get_one(PredictionRow, prediction_id).status


def _error(house: House, prediction_id: str) -> object:
    with house.database.unit_of_work() as uow:
        return uow.session.get_one(PredictionRow, prediction_id).error

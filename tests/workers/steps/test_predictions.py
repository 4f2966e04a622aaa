"""A prediction whose nodes do not answer has them brought back, and is made then."""

import hashlib

from sqlalchemy import func

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


def _predict(house: House, content: bytes) -> str:
    """Train, put a file into the aggregator's sandbox, and request a prediction on it."""
    house.connect("star")
    assert house.train(epochs=1)[0] == "completed"
    house.agents[-1].put("/data/test.json", content)
    with house.database.unit_of_work() as uow:
        for name in house.workers:
            uow.session.get_one(NodeRow, name).capabilities = ["training", "inference"]
        spec = PredictionSpec("global", None, "/data/test.json", None)
        return predictions.start(uow, house.project_id, house.cluster_id, spec).id


def _advance(house: House, prediction_id: str) -> PredictionRow:
    _due(house, prediction_id)
    steps.advance(house.context, prediction_id)
    with house.database.unit_of_work() as uow:
        return uow.session.get_one(PredictionRow, prediction_id)


def test_a_text_with_a_nul_is_predicted_with_the_nul_replaced(house: House) -> None:
    row = _advance(house, _predict(house, rb'[{"text": "good\u0000 value"}, {"text": "half \ud83d pair"}]'))
    assert (row.status, row.error) == ("completed", None)
    assert row.results is not None
    assert [each["text"] for each in row.results["predictions"]] == ["good\ufffd value", "half \ufffd pair"]
    assert row.progress == 1.0


def test_a_prediction_records_the_size_and_the_hash_of_its_input(house: House) -> None:
    content = b'[{"text": "a text"}]'
    row = _advance(house, _predict(house, content))
    assert (row.input_size, row.input_sha256) == (len(content), hashlib.sha256(content).hexdigest())


def test_another_file_in_the_place_of_the_input_fails_the_prediction(house: House) -> None:
    prediction_id = _predict(house, b'[{"text": "a text"}]')
    with house.database.unit_of_work() as uow:
        for name in house.workers:
            transitions.move(uow.session, uow.session.get_one(NodeRow, name), "lost")
            uow.session.get_one(NodeRow, name).due_at = func.clock_timestamp()
    assert _advance(house, prediction_id).status == "pending"
    house.agents[-1].put("/data/test.json", b'[{"text": "another text"}]')
    with house.database.unit_of_work() as uow:
        for name in house.workers:
            transitions.move(uow.session, uow.session.get_one(NodeRow, name), "running")
    row = _advance(house, prediction_id)
    assert row.error is not None
    assert (row.status, row.error.code, row.results) == ("failed", "input_changed", None)


def test_a_missing_input_is_named_with_its_sandbox(house: House) -> None:
    prediction_id = _predict(house, b"[]")
    (house.agents[-1].root / "data/test.json").unlink()
    row = _advance(house, prediction_id)
    assert row.error is not None
    assert row.error.code == "no_match"
    assert row.error.detail.startswith(f"/data/test.json in the aggregator {house.aggregator} (sandbox {house.aggregator}): ")


def test_a_cancelled_prediction_is_not_made(house: House) -> None:
    prediction_id = _predict(house, b'[{"text": "a text"}]')
    with house.database.unit_of_work() as uow:
        predictions.cancel(uow, house.project_id, prediction_id)
    steps.interrupt(house.context, prediction_id)
    row = _advance(house, prediction_id)
    assert (row.status, row.results, row.due_at) == ("cancelled", None, None)

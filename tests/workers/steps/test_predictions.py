"""A prediction waits for nodes that do not answer. Their steps bring them back."""

import hashlib

from sqlalchemy import func
from sqlalchemy.orm import undefer

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


def _predict(live: LiveCluster, content: bytes) -> str:
    """Train, put a file into the aggregator's sandbox, and request a prediction on it."""
    live.connect("star")
    assert live.train(epochs=1)[0] == "completed"
    live.agents[-1].put("/data/test.json", content)
    with live.database.unit_of_work() as uow:
        for name in live.workers:
            uow.session.get_one(NodeRow, name).capabilities = ["training", "inference"]
        spec = PredictionSpec("global", None, "/data/test.json", None)
        return predictions.start(uow, live.project_id, live.cluster_id, spec).id


def _advance(live: LiveCluster, prediction_id: str) -> PredictionRow:
    _due(live, prediction_id)
    steps.advance(live.context, prediction_id)
    with live.database.unit_of_work() as uow:
        return uow.session.get_one(PredictionRow, prediction_id, options=[undefer(PredictionRow.results)])


def test_a_text_with_a_nul_is_predicted_with_the_nul_replaced(live: LiveCluster) -> None:
    row = _advance(live, _predict(live, rb'[{"text": "good\u0000 value"}, {"text": "half \ud83d pair"}]'))
    assert (row.status, row.error) == ("completed", None)
    assert row.results is not None
    assert [each["text"] for each in row.results["predictions"]] == ["good\ufffd value", "half \ufffd pair"]
    assert row.progress == 1.0


def test_a_prediction_records_the_size_and_the_hash_of_its_input(live: LiveCluster) -> None:
    content = b'[{"text": "a text"}]'
    row = _advance(live, _predict(live, content))
    assert (row.input_size, row.input_sha256) == (len(content), hashlib.sha256(content).hexdigest())


def test_another_file_in_the_place_of_the_input_fails_the_prediction(live: LiveCluster) -> None:
    prediction_id = _predict(live, b'[{"text": "a text"}]')
    with live.database.unit_of_work() as uow:
        for name in live.workers:
            transitions.move(uow.session, uow.session.get_one(NodeRow, name), "lost")
            uow.session.get_one(NodeRow, name).due_at = func.clock_timestamp()
    assert _advance(live, prediction_id).status == "pending"
    live.agents[-1].put("/data/test.json", b'[{"text": "another text"}]')
    with live.database.unit_of_work() as uow:
        for name in live.workers:
            transitions.move(uow.session, uow.session.get_one(NodeRow, name), "running")
    row = _advance(live, prediction_id)
    assert row.error is not None
    assert (row.status, row.error.code, row.results) == ("failed", "input_changed", None)


def test_a_missing_input_is_named_with_its_sandbox(live: LiveCluster) -> None:
    prediction_id = _predict(live, b"[]")
    (live.agents[-1].root / "data/test.json").unlink()
    row = _advance(live, prediction_id)
    assert row.error is not None
    assert row.error.code == "no_match"
    assert row.error.detail.startswith(f"/data/test.json in the aggregator {live.aggregator} (sandbox {live.aggregator}): ")


def test_a_cancelled_prediction_is_not_made(live: LiveCluster) -> None:
    prediction_id = _predict(live, b'[{"text": "a text"}]')
    with live.database.unit_of_work() as uow:
        predictions.cancel(uow, live.project_id, prediction_id)
    steps.interrupt(live.context, prediction_id)
    row = _advance(live, prediction_id)
    assert (row.status, row.results, row.due_at) == ("cancelled", None, None)

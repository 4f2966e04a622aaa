"""The curves of a training, and the connections of a cluster."""

from datetime import UTC, datetime, timedelta

import pytest

from api.services.curves import MOST_ROUNDS
from api.store.tables import NodeRow, RoundNodeRow, RoundRow, TrainingRow
from tests.api.routes.user import User

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
ROUNDS = 3


@pytest.fixture(scope="module")
def training_id(user: User) -> str:
    """Return a training with three completed rounds and one that runs. Each round took 60 s."""
    cluster_id = user.ready()
    training_id = user.training(cluster_id)
    with user.rows.unit_of_work() as uow:
        training = uow.session.get_one(TrainingRow, training_id)
        for node in uow.session.query(NodeRow).filter_by(cluster_id=cluster_id):
            node.started_at = BEGAN
        for number in range(1, ROUNDS + 2):
            done = number <= ROUNDS
            began = BEGAN + timedelta(minutes=2 * number)
            row = RoundRow(
                training_id=training_id,
                number=number,
                status="completed" if done else "running",
                base_digest="0" * 64,
                started_at=began,
                finished_at=began + timedelta(minutes=1) if done else None,
                seconds=60.0 if done else None,
                global_loss=1 / number,
            )
            uow.session.add(row)
            uow.session.flush()
            state = "done" if done else "training"
            loss = 0.6000000238418579 if done else None
            uow.session.add(
                RoundNodeRow(training_id=training_id, number=number, node_id=training.workers[0], state=state, local_loss=loss)
            )
        training.completed_rounds = ROUNDS
    return training_id


def test_curves_have_one_entry_for_each_completed_round(user: User, training_id: str) -> None:
    curves = user.call("GET", f"/v1/trainings/{training_id}/curves", 200)
    assert curves["rounds"] == curves["epochs"] == [1, 2, 3]
    assert curves["global_loss"] == [1.0, 0.5, 0.333333]
    assert curves["validation_loss"] == curves["epsilon"] == [None] * ROUNDS
    (worker,) = curves["workers"].values()
    assert worker["local_loss"] == [0.6] * ROUNDS
    assert curves["next_after"] is None
    lists = [value for value in (*curves.values(), *worker.values()) if isinstance(value, list)]
    assert {len(values) for values in lists} == {ROUNDS}


def test_the_cost_of_a_round_is_that_of_its_minute(user: User, training_id: str) -> None:
    """A worker and an aggregator cost 0.05 and 0.08 USD a minute."""
    assert user.call("GET", f"/v1/trainings/{training_id}/curves", 200)["cost_usd"] == [0.13] * ROUNDS


def test_after_leaves_out_earlier_rounds(user: User, training_id: str) -> None:
    curves = user.call("GET", f"/v1/trainings/{training_id}/curves?after=2", 200)
    assert curves["rounds"] == [3]
    assert user.call("GET", f"/v1/trainings/{training_id}/curves?after=3", 200)["rounds"] == []


def test_an_unchanged_answer_is_not_sent_again(user: User, training_id: str) -> None:
    first = user.http.get(f"/v1/trainings/{training_id}/curves")
    again = user.http.get(f"/v1/trainings/{training_id}/curves", headers={"If-None-Match": first.headers["etag"]})
    assert again.status_code == 304


def test_a_long_training_comes_in_parts(user: User) -> None:
    training_id = user.training(user.ready())
    with user.rows.unit_of_work() as uow:
        uow.session.add_all(
            RoundRow(training_id=training_id, number=number, status="completed", base_digest="0" * 64, finished_at=BEGAN)
            for number in range(1, MOST_ROUNDS + 3)
        )
    first = user.call("GET", f"/v1/trainings/{training_id}/curves", 200)
    assert first["next_after"] == MOST_ROUNDS
    rest = user.call("GET", f"/v1/trainings/{training_id}/curves?after={first['next_after']}", 200)
    assert rest["rounds"] == [MOST_ROUNDS + 1, MOST_ROUNDS + 2]


def test_connections_are_those_of_the_last_connect(user: User) -> None:
    cluster_id = user.cluster()
    assert user.call("GET", f"/v1/clusters/{cluster_id}/connections", 200)["connections"] == []
    user.running(cluster_id)
    user.running(cluster_id)
    connected = user.call("POST", f"/v1/clusters/{cluster_id}/connect", 200, json={})
    assert len(connected["connections"]) == 1
    assert user.call("GET", f"/v1/clusters/{cluster_id}/connections", 200) == connected

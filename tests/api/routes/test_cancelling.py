"""A prediction and an export can be cancelled, and a failure that was waited for is an error."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select

from api.domain.records import FailureReason
from api.store import transitions
from api.store.tables import EventRow, ModelRow, PredictionRow
from tests.api.routes.user import User, problem

_WAIT = {"Prefer": "wait=20"}


def _trained(user: User) -> tuple[str, str]:
    """Return the ids of a cluster and of its training with one finished round."""
    cluster_id = user.ready()
    training_id = user.training(cluster_id)
    user.training_becomes(training_id, "training")
    user.round_done(training_id, 1)
    return cluster_id, training_id


def _fail(user: User, table: type[PredictionRow | ModelRow], cluster_id: str, code: str) -> None:
    """Do what a step does when the cluster's only pending row of this kind fails."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        with user.rows.unit_of_work() as uow:
            rows: list[PredictionRow | ModelRow] = list(uow.session.scalars(select(table)))
            pending = [row for row in rows if row.cluster_id == cluster_id and row.status == "pending"]
            if pending:
                (row,) = pending
                row.error = FailureReason(code=code, detail="/data/test.json in the aggregator ps_1 (sandbox sbx_1): no.")
                transitions.move(uow.session, row, "failed")
                return
        time.sleep(0.02)
    raise AssertionError("nothing was requested")


def test_a_prediction_is_cancelled_once(user: User) -> None:
    cluster_id, _ = _trained(user)
    created = user.call("POST", f"/v1/clusters/{cluster_id}/predictions", 202, json={"inputs": ["a text"]})
    assert (created["progress"], created["input_size"], created["input_sha256"]) == (None, None, None)
    path = f"/v1/predictions/{created['prediction_id']}"
    assert user.call("POST", f"{path}/cancel", 200)["status"] == "cancelled"
    assert user.call("POST", f"{path}/cancel", 200)["status"] == "cancelled"
    assert user.call("GET", path, 200)["status"] == "cancelled"
    with user.rows.unit_of_work() as uow:
        row = uow.session.get_one(PredictionRow, created["prediction_id"])
        assert row.request.inputs is None
        events = uow.session.scalars(select(EventRow.type).where(EventRow.cluster_id == cluster_id)).all()
    assert list(events).count("prediction.cancelled") == 1


def test_an_ended_prediction_is_not_cancelled(user: User) -> None:
    cluster_id, _ = _trained(user)
    created = user.call("POST", f"/v1/clusters/{cluster_id}/predictions", 202, json={"inputs": ["a text"]})
    _fail(user, PredictionRow, cluster_id, "no_match")
    assert user.call("POST", f"/v1/predictions/{created['prediction_id']}/cancel", 200)["status"] == "failed"


def test_the_name_of_a_cancelled_export_is_free_again(user: User) -> None:
    _, training_id = _trained(user)
    path = f"/v1/trainings/{training_id}/exports"
    created = user.call("POST", path, 202, json={"name": "m"})
    cancelled = user.call("POST", f"/v1/models/{created['model_id']}/cancel", 200)
    assert (cancelled["status"], cancelled["progress"]) == ("cancelled", None)
    assert user.refused("GET", f"/v1/models/{created['model_id']}/download", 409)["code"] == "model_not_ready"
    assert user.call("POST", path, 202, json={"name": "m"})["model_id"] != created["model_id"]


@pytest.mark.parametrize(
    ("code", "status"),
    [("no_match", 422), ("unreadable_json", 422), ("input_changed", 409), ("agent_died", 502), ("step_failed", 502)],
)
def test_a_failed_prediction_that_was_waited_for_is_an_error(user: User, code: str, status: int) -> None:
    cluster_id, _ = _trained(user)
    path, body = f"/v1/clusters/{cluster_id}/predictions", {"input_data": "/data/test.json"}
    with ThreadPoolExecutor(1) as other:
        held = other.submit(user.http.post, path, json=body, headers=_WAIT)
        _fail(user, PredictionRow, cluster_id, code)
        answer = held.result()
    refusal = problem(answer, status)
    assert refusal["code"] == code
    assert "/data/test.json" in refusal["detail"]
    assert answer.headers["location"] == f"/v1/predictions/{refusal['prediction_id']}"
    assert user.call("GET", answer.headers["location"], 200)["error"]["code"] == code


def test_a_failed_export_that_was_waited_for_is_an_error(user: User) -> None:
    cluster_id, training_id = _trained(user)
    with ThreadPoolExecutor(1) as other:
        held = other.submit(user.http.post, f"/v1/trainings/{training_id}/exports", json={"name": "m"}, headers=_WAIT)
        _fail(user, ModelRow, cluster_id, "export_failed")
        answer = held.result()
    refusal = problem(answer, 502)
    assert answer.headers["location"] == f"/v1/models/{refusal['model_id']}"

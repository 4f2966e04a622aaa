"""Which models a training may begin from, and how a completed training is extended."""

from typing import Any

import pytest

from tests.api.routes.conftest import MakeUser
from tests.api.routes.user import TRAINING, User


def begin(user: User, cluster_id: str, source: Any, status: int) -> dict[str, Any]:
    body = {**TRAINING, "initial_model": source}
    return user.refused("POST", f"/v1/clusters/{cluster_id}/trainings", status, json=body)


def trained(user: User, cluster_id: str) -> str:
    training_id = user.training(cluster_id)
    user.training_becomes(training_id, "training")
    user.round_done(training_id, 1)
    user.training_becomes(training_id, "completed")
    return training_id


@pytest.mark.parametrize(
    ("source", "code"),
    [("model.tar", "invalid_request"), ("/data/../x", "invalid_path"), ("/data/*.tar", "invalid_path"), (7, "invalid_request")],
)
def test_what_is_neither_an_id_nor_a_path_is_refused(user: User, source: Any, code: str) -> None:
    found = begin(user, user.ready(), source, 422)
    assert (found["code"], found["errors"][0]["pointer"]) == (code, "/initial_model")


def test_another_projects_ids_look_like_ids_of_nothing(user: User, make_user: MakeUser) -> None:
    theirs = trained(user, user.ready())
    exported = user.call("POST", f"/v1/trainings/{theirs}/exports", 202, json={"name": "m"})["model_id"]
    stranger = make_user()
    own = stranger.ready()
    for source, nothing in ((theirs, "train_fed_nothing"), (exported, "mdl_nothing")):
        found, unknown = begin(stranger, own, source, 404), begin(stranger, own, nothing, 404)
        assert found["code"] == unknown["code"] == "not_found"
        assert found["detail"].replace(source, nothing) == unknown["detail"]


def test_a_model_that_is_not_there_yet_says_what_to_do(user: User) -> None:
    first, second = user.ready(), user.ready()
    running = user.training(first)
    assert begin(user, second, running, 409)["code"] == "no_model"
    user.training_becomes(running, "training")
    user.round_done(running, 1)
    refused = begin(user, second, running, 409)
    assert refused["code"] == "export_first"
    assert f"POST /v1/trainings/{running}/exports" in refused["detail"]
    pending = user.call("POST", f"/v1/trainings/{running}/exports", 202, json={"name": "m"})["model_id"]
    assert begin(user, second, pending, 409)["code"] == "model_not_ready"


def test_an_architecture_that_does_not_fit_is_named_beside_the_other(user: User) -> None:
    training_id = trained(user, user.ready())
    exported = user.call("POST", f"/v1/trainings/{training_id}/exports", 202, json={"name": "m"})["model_id"]
    user.export_done(exported)
    for source in (training_id, exported):
        refused = begin(user, user.ready(architecture="gpt"), source, 422)
        assert (refused["code"], refused["errors"][0]["pointer"]) == ("initial_model_differs", "/initial_model")
        assert "'base' of the architecture 'transformer'" in refused["detail"]
        assert "'base' of the architecture 'gpt'" in refused["detail"]


def test_a_search_checks_it_before_its_first_training(user: User) -> None:
    search = {**TRAINING, "initial_model": "train_fed_nothing", "space": {"learning_rate": [0.1, 0.01]}}
    found = user.refused("POST", f"/v1/clusters/{user.ready()}/searches", 404, json=search)
    assert found["code"] == "not_found"


def test_privacy_and_an_initial_model_exclude_each_other(user: User) -> None:
    cluster_id = user.ready()
    body = {**TRAINING, "initial_model": trained(user, cluster_id), "differential_privacy": {"target_epsilon": 8.0}}
    found = user.refused("POST", f"/v1/clusters/{cluster_id}/trainings", 422, json=body)
    assert (found["code"], found["errors"][0]["pointer"]) == ("options_exclude_each_other", "/initial_model")


def test_an_extension_is_made_once_for_its_key(user: User) -> None:
    training_id = trained(user, user.ready())
    path, headers = f"/v1/trainings/{training_id}/resume", {"Idempotency-Key": f"key-{training_id}"}
    for _ in range(2):
        found = user.call("POST", path, 202, json={"epochs": 3}, headers=headers)
        assert (found["status"], found["config"]["epochs"], found["config"]["extended_after"]) == ("pending", 4, [1])
    assert user.refused("POST", path, 409, json={"epochs": 3})["code"] == "not_resumable"
    assert user.refused("POST", path, 409, json={"epochs": 4}, headers=headers)["code"] == "idempotency_key_reused"
    user.training_becomes(training_id, "failed")
    assert user.call("POST", path, 202)["config"]["epochs"] == 4, "without a body it goes on as planned"


@pytest.mark.parametrize("epochs", [0, 10_001, "3", 1.5])
def test_epochs_out_of_bounds_are_refused(user: User, epochs: Any) -> None:
    training_id = trained(user, user.ready())
    found = user.refused("POST", f"/v1/trainings/{training_id}/resume", 422, json={"epochs": epochs})
    assert found["errors"][0]["pointer"] == "/epochs"

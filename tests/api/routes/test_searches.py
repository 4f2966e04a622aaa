"""Searches as a client requests them.

The tests write through the store what workers would write.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from api.services import searches, trainings
from api.store import transitions
from api.store.tables import ClusterRow, RoundRow, SearchRow, TrainingRow
from tests.api.routes.user import SEARCH, TRAINING, User


def ends(user: User, search_id: str, status: str) -> None:
    """Do what the search's step does at its end."""
    with user.rows.unit_of_work() as uow:
        row = uow.session.get_one(SearchRow, search_id)
        if status == "stopped" and row.status != "stopping":
            transitions.move(uow.session, row, "stopping")
        transitions.move(uow.session, row, status)


def begins(user: User, search_id: str) -> str:
    """Do what the search's step does: start the next training."""
    with user.rows.unit_of_work() as uow:
        search = uow.session.get_one(SearchRow, search_id)
        cluster = uow.session.get_one(ClusterRow, search.cluster_id)
        spec = searches.next_spec(search, budget_usd=None, max_minutes=None)
        training = trainings.begin(uow, cluster, spec, *trainings.training_nodes(uow.session, cluster), search_id)
        search.training_ids = [*search.training_ids, training.id]
        return training.id


def trained(user: User, search_id: str, accuracy: float | None, status: str = "completed") -> str:
    """Start the search's next training and end it after one round, as the steps do."""
    training_id = begins(user, search_id)
    with user.rows.unit_of_work() as uow:
        row = uow.session.get_one(TrainingRow, training_id)
        uow.session.add(
            RoundRow(training_id=row.id, number=1, status="completed", base_digest="", validation_accuracy=accuracy)
        )
        transitions.move(uow.session, row, "training")
        transitions.move(uow.session, row, status)
    return training_id


def test_a_search_is_accepted_and_shown_with_all_its_trainings(user: User) -> None:
    cluster_id = user.ready()
    answer = user.http.post(f"/v1/clusters/{cluster_id}/searches", json={**SEARCH, "batch_size": 8})
    search = answer.json()
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"/v1/searches/{search['search_id']}"
    assert user.call("GET", answer.headers["location"], 200) == search
    assert (search["status"], search["cluster_id"], search["metric"]) == ("pending", cluster_id, "validation_accuracy")
    assert search["config"]["batch_size"] == 8
    assert search["config"]["dataset"] == TRAINING["dataset"]
    assert "learning_rate" not in search["config"]
    assert search["trials"] == [
        {
            "options": {"learning_rate": rate},
            "training_id": None,
            "status": "waiting",
            "metric": None,
            "epochs": 0,
            "stop_reason": None,
            "error": None,
        }
        for rate in (0.01, 0.001)
    ]
    best = ("best_training_id", "best_options", "best_metric", "started_at", "finished_at", "stop_reason", "error")
    assert [search[name] for name in best] == [None] * len(best)


def test_the_best_is_the_best_measured(user: User) -> None:
    search_id = user.search(user.ready(), space={"learning_rate": [0.1, 0.01, 0.001, 0.0001]})
    trained(user, search_id, 0.7)
    best = trained(user, search_id, 0.8, "stopped")
    trained(user, search_id, 0.9, "failed")
    trained(user, search_id, None)
    found = user.call("GET", f"/v1/searches/{search_id}", 200)
    assert [trial["metric"] for trial in found["trials"]] == [0.7, 0.8, 0.9, None]
    assert [trial["status"] for trial in found["trials"]] == ["completed", "stopped", "failed", "completed"]
    assert [trial["epochs"] for trial in found["trials"]] == [1, 1, 1, 1]
    assert (found["best_training_id"], found["best_options"], found["best_metric"]) == (best, {"learning_rate": 0.01}, 0.8)
    assert user.call("GET", f"/v1/trainings/{best}", 200)["search_id"] == search_id


def test_progress_counts_what_is_trained(user: User) -> None:
    search_id = user.search(user.ready(), space={"learning_rate": [0.1, 0.01, 0.001, 0.0001]}, epochs=4)
    path = f"/v1/searches/{search_id}"
    assert user.call("GET", path, 200)["progress"] == 0
    trained(user, search_id, 0.7)
    assert user.call("GET", path, 200)["progress"] == 1 / 4
    training_id = begins(user, search_id)
    user.round_done(training_id, 1)
    # One epoch of four of one training of four.
    assert user.call("GET", path, 200)["progress"] == 1 / 4 + 1 / 16
    user.training_becomes(training_id, "training")
    user.training_becomes(training_id, "completed")
    trained(user, search_id, None, "failed")
    assert user.call("GET", path, 200)["progress"] == 3 / 4


def test_one_cluster_searches_or_trains_one_thing_at_a_time(user: User) -> None:
    cluster_id = user.ready()
    search_id = user.search(cluster_id)
    for noun, body in (("trainings", TRAINING), ("searches", SEARCH)):
        found = user.refused("POST", f"/v1/clusters/{cluster_id}/{noun}", 409, json=body)
        assert (found["code"], search_id in found["detail"]) == ("search_active", True)
    assert user.refused("POST", f"/v1/clusters/{cluster_id}/connect", 409, json={})["code"] == "search_active"
    training_id = trained(user, search_id, 0.5, "failed")
    assert user.refused("POST", f"/v1/trainings/{training_id}/resume", 409)["code"] == "search_active"
    ends(user, search_id, "stopped")
    user.training(cluster_id)
    assert user.refused("POST", f"/v1/clusters/{cluster_id}/searches", 409, json=SEARCH)["code"] == "training_active"


def test_what_a_search_needs_of_its_cluster(user: User) -> None:
    cluster_id = user.cluster()
    path = f"/v1/clusters/{cluster_id}/searches"
    assert user.refused("POST", path, 409, json=SEARCH)["code"] == "no_workers"
    user.running(cluster_id)
    assert user.refused("POST", path, 409, json=SEARCH)["code"] == "no_aggregator"
    user.running(cluster_id, node_type="parameter_server")
    assert user.refused("POST", path, 409, json=SEARCH)["code"] == "not_connected"
    user.call("POST", f"/v1/clusters/{cluster_id}/connect", 200, json={})
    few = user.refused("POST", path, 422, json={**SEARCH, "space": {"strategy": ["fedavg", "krum"]}})
    assert (few["code"], [error["pointer"] for error in few["errors"]]) == ("too_few_workers", ["/space/strategy"])
    few = user.refused("POST", path, 422, json={**SEARCH, "min_workers": 2})
    assert [error["pointer"] for error in few["errors"]] == ["/min_workers"]
    pooled = user.refused("POST", path, 422, json={**SEARCH, "federated": False, "compression": "int8"})
    assert (pooled["code"], [error["pointer"] for error in pooled["errors"]]) == ("federated_only", ["/compression"])
    both = user.refused("POST", path, 422, json={**SEARCH, "secure_aggregation": True, "compression": "int8"})
    assert both["code"] == "options_exclude_each_other"


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"space": {}}, "/space"),
        ({"space": {"learning_rate": []}}, "/space/learning_rate"),
        ({"space": {"learning_rate": [[0.1]]}}, "/space/learning_rate"),
        ({"space": {"learning_rate": {"min": 0.1}}}, "/space/learning_rate"),
        ({"space": {"learning_rate": [-1]}}, "/space/learning_rate/0"),
        ({"space": {"epochs": [1, 2]}}, "/space/epochs"),
        ({"method": "bayesian"}, "/method"),
        ({"metric": "f1"}, "/metric"),
        ({"early_stopping": "hyperband"}, "/early_stopping"),
        ({"max_trainings": 101}, "/max_trainings"),
        ({"epochs": 0}, "/epochs"),
        ({"unknown": 1}, "/unknown"),
    ],
)
def test_mistakes_are_pointed_at(user: User, fields: dict[str, Any], pointer: str) -> None:
    found = user.refused("POST", "/v1/clusters/any/searches", 422, json={**SEARCH, **fields})
    assert all(error["pointer"].startswith(pointer) for error in found["errors"]), found["errors"]


def test_a_repeated_post_is_one_search(user: User) -> None:
    cluster_id = user.ready()
    key = {"Idempotency-Key": "search-once"}
    path = f"/v1/clusters/{cluster_id}/searches"
    first, again = (user.call("POST", path, 202, json=SEARCH, headers=key)["search_id"] for _ in range(2))
    assert first == again
    found = user.refused("POST", path, 409, json={**SEARCH, "epochs": 5}, headers=key)
    assert found["code"] == "idempotency_key_reused"


def test_one_of_many_searches_begins(user: User) -> None:
    cluster_id = user.ready()
    with ThreadPoolExecutor(8) as crowd:
        answers = list(
            crowd.map(lambda _: user.http.post(f"/v1/clusters/{cluster_id}/searches", json=SEARCH).status_code, range(8))
        )
    assert sorted(answers) == [202] + [409] * 7


def test_stopping_is_safe_to_ask_twice_and_takes_the_training_in_hand_along(user: User) -> None:
    search_id = user.search(user.ready())
    trained(user, search_id, 0.5)
    begins(user, search_id)
    for _ in range(2):
        found = user.call("POST", f"/v1/searches/{search_id}/stop", 202)
        assert found["status"] == "stopping"
        assert [trial["status"] for trial in found["trials"]] == ["completed", "stopping"]
        assert [trial["stop_reason"] and trial["stop_reason"]["code"] for trial in found["trials"]] == [None, "search_stopped"]
    with ThreadPoolExecutor() as other:
        held = other.submit(user.http.post, f"/v1/searches/{search_id}/stop", headers={"Prefer": "wait=20"})
        ends(user, search_id, "stopped")
        answer = held.result()
    assert (answer.json()["status"], answer.headers["preference-applied"]) == ("stopped", "wait=20")
    assert user.call("POST", f"/v1/searches/{search_id}/stop", 202)["status"] == "stopped"


def test_a_terminated_cluster_ends_its_search(user: User) -> None:
    cluster_id = user.ready()
    search_id = user.search(cluster_id)
    user.call("POST", f"/v1/clusters/{cluster_id}/terminate", 202)
    assert user.call("GET", f"/v1/searches/{search_id}", 200)["status"] == "stopping"
    assert user.refused("POST", f"/v1/clusters/{cluster_id}/searches", 409, json=SEARCH)["code"] == "cluster_terminated"


def test_searches_by_cluster_and_status(user: User) -> None:
    one, other = user.ready(), user.ready()
    first, second = user.search(one), user.search(other)
    ends(user, first, "stopped")
    newer = user.search(one)

    def listed(**query: str) -> list[str]:
        return [item["search_id"] for item in user.call("GET", "/v1/searches", 200, params=query)["items"]]

    assert listed(cluster_id=one) == [newer, first]
    assert listed(cluster_id=one, status="stopped") == [first]
    assert {newer, second, first} <= set(listed(limit="100"))
    user.refused("GET", "/v1/searches", 422, params={"status": "happy"})
    assert user.refused("GET", "/v1/searches?cluster_id=%00", 422)["errors"][0]["pointer"] == "/cluster_id"

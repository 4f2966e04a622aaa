"""Pages of lists: every item once, the newest first, also while items are added."""

import base64
import json

import pytest

from tests.api.routes.conftest import MakeUser
from tests.api.routes.user import User


def test_pages_cover_every_item_once(make_user: MakeUser) -> None:
    user = make_user()
    made = [user.cluster(name=f"c{number}") for number in range(7)]
    seen: list[str] = []
    cursor = None
    while True:
        page = user.call("GET", "/v1/clusters", 200, params={"limit": 3, **({"cursor": cursor} if cursor else {})})
        seen += [item["cluster_id"] for item in page["items"]]
        user.cluster(name="added meanwhile")
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == made[::-1]


def test_an_empty_list(make_user: MakeUser) -> None:
    for path in ("/v1/clusters", "/v1/trainings", "/v1/searches", "/v1/models", "/v1/sandboxes"):
        assert make_user().call("GET", path, 200) == {"items": [], "next_cursor": None}


def encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "%00",
        "é",
        "a" * 501,
        encoded([]),
        encoded({}),
        encoded(["yesterday", "cls"]),
        encoded(["2026-01-01T00:00:00", "cls"]),
        encoded(["2026-01-01T00:00:00+00:00", 5]),
        encoded(["2026-01-01T00:00:00+00:00", "\x00"]),
        encoded(["2026-01-01T00:00:00+00:00", "\ud800"]),
        encoded([["2026-01-01T00:00:00+00:00"], "cls"]),
    ],
)
def test_broken_cursors(user: User, cursor: str) -> None:
    body = user.refused("GET", "/v1/clusters", 422, params={"cursor": cursor})
    assert [error["pointer"] for error in body["errors"]] == ["/cursor"]


@pytest.mark.parametrize("edge", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.999999-14:00"])
def test_cursors_at_the_ends_of_time(user: User, edge: str) -> None:
    assert user.http.get("/v1/clusters", params={"cursor": encoded([edge, "cls"])}).status_code in (200, 422)


@pytest.mark.parametrize("limit", ["0", "-1", "101", "x", "1.5", ""])
def test_limits(user: User, limit: str) -> None:
    body = user.refused("GET", "/v1/clusters", 422, params={"limit": limit})
    assert [error["pointer"] for error in body["errors"]] == ["/limit"]


def test_trainings_of_one_cluster(user: User) -> None:
    first, second = user.ready(), user.ready()
    mine, other = user.training(first), user.training(second)
    listed = user.call("GET", "/v1/trainings", 200, params={"cluster_id": first})["items"]
    assert [item["training_id"] for item in listed] == [mine]
    everything = user.call("GET", "/v1/trainings", 200)["items"]
    assert {mine, other} <= {item["training_id"] for item in everything}


def test_rounds_go_by_number(user: User) -> None:
    training_id = user.training(user.ready())
    user.training_becomes(training_id, "training")
    for number in range(1, 6):
        user.round_done(training_id, number)
    path = f"/v1/trainings/{training_id}/rounds"
    first = user.call("GET", path, 200, params={"limit": 3})
    assert [item["round"] for item in first["items"]] == [1, 2, 3]
    second = user.call("GET", path, 200, params={"limit": 3, "cursor": first["next_cursor"]})
    assert ([item["round"] for item in second["items"]], second["next_cursor"]) == ([4, 5], None)
    assert user.refused("GET", path, 422, params={"cursor": "x"})["errors"][0]["pointer"] == "/cursor"


def test_sandboxes_by_status(user: User) -> None:
    cluster_id = user.cluster()
    node_id = user.running(cluster_id)
    user.deploy(cluster_id)
    running = user.call("GET", "/v1/sandboxes", 200, params={"status": "running"})["items"]
    assert node_id in {item["node_id"] for item in running}
    assert {item["status"] for item in running} == {"running"}
    assert user.call("GET", "/v1/sandboxes", 200, params={"status": "lost"})["items"] == []
    user.refused("GET", "/v1/sandboxes", 422, params={"status": "happy"})


def test_models_by_project(user: User) -> None:
    training_id = user.training(user.ready())
    path = f"/v1/trainings/{training_id}/exports"
    assert user.refused("POST", path, 409, json={"name": "m"})["code"] == "no_model"
    user.training_becomes(training_id, "training")
    user.round_done(training_id, 1)
    answer = user.http.post(path, json={"name": "sentiment_model_v1.0"})
    model = answer.json()
    assert (answer.status_code, model["status"], model["path"]) == (202, "pending", None)
    assert answer.headers["location"] == f"/v1/models/{model['model_id']}"
    assert user.refused("POST", path, 409, json={"name": "sentiment_model_v1.0"})["code"] == "name_taken"
    assert user.refused("GET", f"/v1/models/{model['model_id']}/download", 409)["code"] == "model_not_ready"
    assert [item["model_id"] for item in user.call("GET", "/v1/models", 200)["items"]] == [model["model_id"]]

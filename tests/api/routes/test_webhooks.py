"""Webhooks over HTTP: created, changed, refused, and hidden from other projects."""

from typing import Any

import pytest

from api.settings import Settings
from tests.api.routes.conftest import MakeUser, make_settings
from tests.api.routes.user import User


@pytest.fixture(scope="module")
def settings(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return make_settings(postgres_url, tmp_path_factory.mktemp("models"), webhook_networks="127.0.0.0/8")


@pytest.fixture
def admin(make_user: MakeUser) -> User:
    return make_user(scopes=frozenset({"admin"}))


def body(url: str = "http://127.0.0.1:9/hook", *types: str) -> dict[str, Any]:
    return {"name": "h", "url": url, "event_types": [*(types or ("round.*",))]}


def test_the_secret_is_shown_only_when_it_is_created(admin: User) -> None:
    headers = {"Idempotency-Key": "one"}
    first = admin.http.post("/v1/webhooks", json=body(), headers=headers)
    assert first.status_code == 201
    created = first.json()
    assert first.headers["location"] == f"/v1/webhooks/{created['webhook_id']}"
    assert created["secret"].startswith("whsec_")
    assert admin.call("POST", "/v1/webhooks", 201, json=body(), headers=headers) == created
    hidden = {**created, "secret": None}
    assert admin.call("GET", f"/v1/webhooks/{created['webhook_id']}", 200) == hidden
    assert admin.call("GET", "/v1/webhooks", 200)["items"] == [hidden]


@pytest.mark.parametrize(
    "address",
    ["http://10.0.0.1/", "https://169.254.169.254/", "https://[::1]/", "http://93.184.216.34/", "https://nowhere.invalid/"],
)
def test_a_refused_address_has_one_code_at_create_and_update(make_user: MakeUser, address: str) -> None:
    user = make_user(scopes=frozenset({"admin"}))
    refusals = [user.refused("POST", "/v1/webhooks", 422, json=body(address))]
    path = f"/v1/webhooks/{user.call('POST', '/v1/webhooks', 201, json=body())['webhook_id']}"
    refusals.append(user.refused("PATCH", path, 422, json={"url": address}))
    assert [refusal["code"] for refusal in refusals] == ["webhook_url_refused"] * 2
    assert refusals[0]["detail"] == refusals[1]["detail"]


def test_unknown_event_types_are_refused(admin: User) -> None:
    problem = admin.refused("POST", "/v1/webhooks", 422, json=body("http://127.0.0.1:9/", "round.danced"))
    assert problem["errors"][0]["pointer"] == "/event_types/0"


def test_a_webhook_is_changed_tested_and_deleted(admin: User) -> None:
    path = f"/v1/webhooks/{admin.call('POST', '/v1/webhooks', 201, json=body())['webhook_id']}"
    delivery = admin.call("POST", f"{path}/test", 202)
    assert delivery["status"] == "pending"
    assert admin.call("PATCH", path, 200, json={"enabled": False})["enabled"] is False
    (ended,) = admin.call("GET", f"{path}/deliveries", 200)["items"]
    assert (ended["status"], ended["error"]) == ("failed", "disabled")
    again = f"{path}/deliveries/{delivery['delivery_id']}/redeliver"
    assert admin.refused("POST", again, 409)["code"] == "webhook_disabled"
    admin.call("PATCH", path, 200, json={"enabled": True})
    assert admin.call("POST", again, 202)["delivery_id"] == delivery["delivery_id"]
    assert admin.http.delete(path).status_code == 204
    admin.refused("GET", path, 404)


def test_another_project_sees_no_webhook(make_user: MakeUser) -> None:
    owner, stranger = (make_user(scopes=frozenset({"admin"})) for _ in range(2))
    path = f"/v1/webhooks/{owner.call('POST', '/v1/webhooks', 201, json=body())['webhook_id']}"
    delivery = owner.call("POST", f"{path}/test", 202)["delivery_id"]
    for method, place in (
        ("GET", ""),
        ("DELETE", ""),
        ("POST", "/test"),
        ("GET", "/deliveries"),
        ("POST", f"/deliveries/{delivery}/redeliver"),
    ):
        stranger.refused(method, path + place, 404)
    assert stranger.call("GET", "/v1/webhooks", 200)["items"] == []


def test_a_project_has_at_most_twenty(admin: User) -> None:
    for _ in range(20):
        admin.call("POST", "/v1/webhooks", 201, json=body())
    assert admin.refused("POST", "/v1/webhooks", 409, json=body())["code"] == "too_many_webhooks"

"""Keys over the API: shown once, with at most the scopes of their creator, and revoked in time."""

import time
from typing import Any

import pytest
from sqlalchemy import select, text

from api.domain.scopes import SCOPES
from api.store.tables import ApiKeyRow
from tests.api.routes.conftest import MakeUser
from tests.api.routes.user import User


@pytest.fixture(scope="module")
def admin(make_user: MakeUser) -> User:
    return make_user(scopes=frozenset({"admin"}))


def opens(user: User, secret: str) -> bool:
    status = user.holding(secret).http.get("/v1/clusters").status_code
    assert status in (200, 401)
    return status == 200


def test_a_secret_is_shown_once(admin: User) -> None:
    key = admin.key(scopes=["clusters:read"])
    assert key["api_key"].startswith(key["prefix"])
    path = f"/v1/keys/{key['key_id']}"
    shown = [admin.http.get(path).text, admin.http.get("/v1/keys").text, admin.http.get("/v1/audit").text]
    assert not any(key["api_key"] in answer for answer in shown)
    assert admin.call("GET", path, 200) == {name: value for name, value in key.items() if name != "api_key"}
    with admin.rows.unit_of_work() as uow:
        row = uow.session.execute(text("SELECT to_jsonb(k)::text FROM api_keys k WHERE id = :id"), {"id": key["key_id"]})
        assert key["api_key"] not in row.scalar_one()


def test_a_key_does_what_it_was_made_for(admin: User) -> None:
    reader = admin.holding(admin.key(scopes=["clusters:read"])["api_key"])
    reader.call("GET", "/v1/clusters", 200)
    assert reader.refused("POST", "/v1/clusters", 403, json={"name": "c"})["code"] == "missing_scope"
    assert reader.refused("POST", "/v1/keys", 403, json={"name": "k", "scopes": ["admin"]})["code"] == "missing_scope"


def test_nobody_grants_what_they_lack(admin: User, make_user: MakeUser) -> None:
    """`admin` has every scope except data:export. Only a key with data:export can grant it."""
    body = {"name": "k", "scopes": ["data:export"]}
    assert admin.refused("POST", "/v1/keys", 403, json=body)["code"] == "scope_not_held"
    holder = make_user(project=admin.project, scopes=frozenset({"admin", "data:export"}))
    exporter = holder.call("POST", "/v1/keys", 201, json=body)["key_id"]
    assert admin.refused("POST", f"/v1/keys/{exporter}/rotate", 403)["code"] == "scope_not_held"
    holder.call("POST", f"/v1/keys/{exporter}/rotate", 200)
    assert admin.call("DELETE", f"/v1/keys/{exporter}", 200)["status"] == "revoked"


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({}, ""),
        ({"scopes": []}, "/scopes"),
        ({"scopes": ["root"]}, "/scopes/0"),
        ({"scopes": "admin"}, "/scopes"),
        ({"scopes": ["admin"], "expires_in_s": 0}, "/expires_in_s"),
        ({"scopes": ["admin"], "expires_in_s": 10**12}, "/expires_in_s"),
        ({"scopes": ["admin"], "api_key": "fnx_mine"}, "/api_key"),
    ],
)
def test_wrong_keys_are_refused(admin: User, fields: dict[str, Any], pointer: str) -> None:
    body = admin.refused("POST", "/v1/keys", 422, json={"name": "k", **fields})
    assert [error["pointer"] for error in body["errors"]] == [pointer]


def test_a_key_ends_by_itself(admin: User) -> None:
    key = admin.key(scopes=["clusters:read"], expires_in_s=1)
    assert opens(admin, key["api_key"])
    time.sleep(1.1)
    assert not opens(admin, key["api_key"])
    assert admin.call("GET", f"/v1/keys/{key['key_id']}", 200)["status"] == "expired"
    assert admin.refused("POST", f"/v1/keys/{key['key_id']}/rotate", 409)["code"] == "key_not_valid"


def test_a_revoked_key_is_closed_and_stays_listed(admin: User) -> None:
    key = admin.key(scopes=["clusters:read"])
    path = f"/v1/keys/{key['key_id']}"
    first = admin.call("DELETE", path, 200)
    assert admin.call("DELETE", path, 200) == first
    assert not opens(admin, key["api_key"])
    assert admin.refused("POST", f"{path}/rotate", 409)["code"] == "key_not_valid"
    assert key["key_id"] in {item["key_id"] for item in admin.call("GET", "/v1/keys?limit=100", 200)["items"]}


def test_rotation_closes_the_old_secret_at_once_or_after_the_overlap(admin: User) -> None:
    key = admin.key(scopes=["clusters:read"])
    path = f"/v1/keys/{key['key_id']}/rotate"
    second = admin.call("POST", path, 200)
    assert (second["key_id"], second["scopes"], second["old_valid_until"]) == (key["key_id"], key["scopes"], None)
    assert (opens(admin, key["api_key"]), opens(admin, second["api_key"])) == (False, True)
    third = admin.call("POST", path, 200, json={"overlap_s": 2})
    assert all(opens(admin, secret) for secret in (second["api_key"], third["api_key"]))
    time.sleep(2.1)
    assert (opens(admin, second["api_key"]), opens(admin, third["api_key"])) == (False, True)


def test_revoking_closes_both_secrets(admin: User) -> None:
    key = admin.key(scopes=["clusters:read"])
    second = admin.call("POST", f"/v1/keys/{key['key_id']}/rotate", 200, json={"overlap_s": 600})
    admin.call("DELETE", f"/v1/keys/{key['key_id']}", 200)
    assert not opens(admin, key["api_key"])
    assert not opens(admin, second["api_key"])


def last_used(admin: User, key_id: str) -> Any:
    return admin.call("GET", f"/v1/keys/{key_id}", 200)["last_used_at"]


def test_the_last_use_is_known_to_the_minute(admin: User) -> None:
    key = admin.key(scopes=["clusters:read"])
    assert last_used(admin, key["key_id"]) is None
    assert opens(admin, key["api_key"])
    end = time.monotonic() + 10
    while (first := last_used(admin, key["key_id"])) is None:
        assert time.monotonic() < end, "the use was not noted"
        time.sleep(0.02)
    for _ in range(5):
        assert opens(admin, key["api_key"])
    time.sleep(0.3)
    assert last_used(admin, key["key_id"]) == first


def test_a_key_that_somebody_holds_locked_opens_without_delay(admin: User) -> None:
    key = admin.key(scopes=["clusters:read"])
    with admin.rows.unit_of_work() as uow:
        uow.session.execute(select(ApiKeyRow.id).where(ApiKeyRow.id == key["key_id"]).with_for_update())
        began = time.monotonic()
        for _ in range(3):
            assert opens(admin, key["api_key"])
        assert time.monotonic() - began < 10, "the request waited for the lock"


def test_pages_of_keys(make_user: MakeUser) -> None:
    admin = make_user(scopes=SCOPES)
    created_ids = [admin.key(scopes=["clusters:read"])["key_id"] for _ in range(3)]
    page = admin.call("GET", "/v1/keys", 200, params={"limit": 2})
    rest = admin.call("GET", "/v1/keys", 200, params={"limit": 2, "cursor": page["next_cursor"]})
    listed = [item["key_id"] for item in (*page["items"], *rest["items"])]
    assert listed[:3] == created_ids[::-1]
    assert len(listed) == 4


def test_a_repeated_request_makes_no_second_key_and_says_which_it_made(admin: User) -> None:
    body = {"name": "k", "scopes": ["clusters:read"]}
    headers = {"Idempotency-Key": "once"}
    key = admin.call("POST", "/v1/keys", 201, json=body, headers=headers)
    again = admin.refused("POST", "/v1/keys", 409, json=body, headers=headers)
    assert again["code"] == "key_made_before"
    assert key["key_id"] in again["detail"]


def test_secrets_stay_out_of_logs_metrics_and_refusals(admin: User, caplog: pytest.LogCaptureFixture, url: str) -> None:
    caplog.set_level("DEBUG")
    mistyped = "fnx_" + "mistyped-secret" * 3
    key = admin.key(scopes=["clusters:read"])
    holder = admin.holding(key["api_key"])
    shown = [
        admin.holding(mistyped).http.get("/v1/clusters").text,
        holder.http.get("/v1/keys").text,
        holder.http.post("/v1/clusters", content=b"{", headers={"Content-Type": "application/json"}).text,
        admin.http.get("/metrics").text,
        admin.http.get("/v1/audit").text,
    ]
    for secret in (mistyped, key["api_key"], admin.secret):
        assert secret not in caplog.text
        assert not [text for text in shown if secret in text]


def test_a_stream_ends_with_the_key_that_opened_it(admin: User) -> None:
    cluster_id = admin.cluster()
    key = admin.key(scopes=["clusters:read"])
    with admin.holding(key["api_key"]).http.stream("GET", f"/v1/clusters/{cluster_id}/events", timeout=20) as stream:
        lines = stream.iter_lines()
        assert next(lines) == "id: 1"
        admin.call("DELETE", f"/v1/keys/{key['key_id']}", 200)
        admin.deploy(cluster_id)
        assert list(lines), "what was committed is sent, and then it ends"

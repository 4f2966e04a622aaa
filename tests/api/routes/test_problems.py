"""Every refusal is a problem document and reveals nothing internal."""

import re
from collections.abc import Iterator

import httpx
import pytest
from sqlalchemy import text

from tests.api.routes.user import CLUSTER, User, problem

JSON = {"Content-Type": "application/json"}


def test_unknown_paths_and_methods(user: User) -> None:
    for path in ("/nothing", "/v1/clusters/", "/v1//clusters", "/v1/clusters/x/y"):
        assert user.refused("GET", path, 404)["code"] == "no_such_path"
    answer = user.http.put("/v1/clusters")
    assert problem(answer, 405)["code"] == "method_not_allowed"
    assert answer.headers["allow"]


@pytest.mark.parametrize("body", [b"{", b"[1,", b"\xff\xfe\xfd", b'{"name": "a"} x', b"[" * 20_000, b'{"name": ' + b"9" * 5000])
def test_broken_json(user: User, body: bytes) -> None:
    assert user.refused("POST", "/v1/clusters", 400, content=body, headers=JSON)["code"] == "malformed_json"


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b'{"name": "a",\n "topology": mesh}', "line 2, column 14: Expecting value"),
        (b'{"name": "a"} x', "line 1, column 15: Extra data"),
        (b'{"name":\n\n', "line 3, column 1: Expecting value"),
        (b'{"name": "a",\n "b": "\xff"}', "not UTF-8: line 2, byte 8"),
        (b"[" * 20_000, "nested too deeply"),
    ],
)
def test_broken_json_is_named_by_its_line_and_column(user: User, body: bytes, place: str) -> None:
    assert place in user.refused("POST", "/v1/clusters", 400, content=body, headers=JSON)["detail"]


def test_path_and_method_are_judged_before_the_content_type(user: User) -> None:
    text = {"Content-Type": "text/plain"}
    assert user.refused("POST", "/v1/nothing", 404, content=b"a", headers=text)["code"] == "no_such_path"
    assert user.refused("PUT", "/v1/clusters", 405, content=b"a", headers=text)["code"] == "method_not_allowed"
    assert user.refused("PATCH", "/v1/clusters/x", 405, content=b"a", headers=text)["code"] == "method_not_allowed"
    assert user.refused("POST", "/v1/nothing", 404, content=b"a" * 200_000, headers=JSON)["code"] == "no_such_path"
    assert user.refused("POST", "/v1/clusters/x/connect", 415, content=b"a", headers=text)["code"] == "unsupported_media_type"


@pytest.mark.parametrize(
    "media_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""]
)
def test_only_json_is_taken(user: User, media_type: str) -> None:
    headers = {"Content-Type": media_type}
    assert user.refused("POST", "/v1/clusters", 415, content=b'{"name": "a"}', headers=headers)["code"] == (
        "unsupported_media_type"
    )


def test_a_large_body_is_refused_with_and_without_its_length(user: User) -> None:
    large = b'{"name": "' + b"a" * 200_000 + b'"}'
    assert user.refused("POST", "/v1/clusters", 413, content=large, headers=JSON)["code"] == "body_too_large"

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(large), 1000):
            yield large[start : start + 1000]

    assert user.refused("POST", "/v1/clusters", 413, content=pieces(), headers=JSON)["code"] == "body_too_large"
    user.cluster()


@pytest.mark.parametrize("noun", ["clusters", "nodes", "trainings", "searches", "models", "sandboxes"])
@pytest.mark.parametrize("name", ["cls_unknown", "%FF", "é", "%27%20OR%201=1", "%0A%0Dforged"])
def test_unknown_ids(user: User, noun: str, name: str) -> None:
    assert user.refused("GET", f"/v1/{noun}/{name}", 404)["code"] == "not_found"


def test_what_the_database_cannot_hold_is_refused(user: User) -> None:
    assert user.refused("GET", "/v1/clusters/%00", 422)["errors"][0]["pointer"] == "/cluster_id"
    assert user.refused("GET", "/v1/trainings?cluster_id=%00", 422)["errors"][0]["pointer"] == "/cluster_id"
    assert user.refused("GET", f"/v1/nodes/{'n' * 5000}", 422)["errors"][0]["pointer"] == "/node_id"


def test_every_answer_is_named_and_careful(user: User, url: str) -> None:
    answers = [user.http.get("/v1/clusters"), user.http.get("/nothing"), httpx.get(f"{url}/healthz")]
    assert len({answer.headers["x-request-id"] for answer in answers}) == 3
    for answer in answers:
        assert re.fullmatch(r"req_[0-9a-f]{16}", answer.headers["x-request-id"])
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in answer.headers


def test_a_bug_is_a_500_without_its_cause(user: User, caplog: pytest.LogCaptureFixture) -> None:
    """Simulate a bug: a row that the code would never write."""
    cluster_id = user.cluster(name="my secret name")
    with user.rows.unit_of_work() as uow:
        uow.session.execute(text("UPDATE clusters SET config = '{\"odd\": 1}' WHERE id = :id"), {"id": cluster_id})
    body = user.refused("GET", f"/v1/clusters/{cluster_id}", 500)
    assert body["code"] == "internal"
    assert "odd" not in str(body)
    assert "Traceback" not in str(body)
    assert body["instance"].rpartition("#")[2] in caplog.text, "the log has the request's id"
    user.cluster()


def test_a_commit_that_fails_is_never_answered_as_done(user: User, caplog: pytest.LogCaptureFixture) -> None:
    with user.rows.unit_of_work() as uow:
        uow.session.execute(
            text(
                """
                CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'at commit'; END $$;
                CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON clusters DEFERRABLE INITIALLY DEFERRED
                FOR EACH ROW WHEN (NEW.name = 'doomed') EXECUTE FUNCTION refuse();
                CREATE TRIGGER refuse_now BEFORE INSERT ON clusters
                FOR EACH ROW WHEN (NEW.name = 'doomed at once') EXECUTE FUNCTION refuse();
                """
            )
        )
    body = user.refused("POST", "/v1/clusters", 500, json={**CLUSTER, "name": "doomed"}, headers={"Idempotency-Key": "doomed"})
    assert "at commit" not in str(body)
    user.refused("POST", "/v1/clusters", 500, json={**CLUSTER, "name": "doomed at once"})
    assert "RaiseException" in caplog.text, "the log has the kind of the error"
    assert "at commit" not in caplog.text, "a message may quote what a client sent"
    assert "doomed" not in caplog.text, "what clients send stays out of the log"
    user.call("POST", "/v1/clusters", 201, json=CLUSTER, headers={"Idempotency-Key": "doomed"})

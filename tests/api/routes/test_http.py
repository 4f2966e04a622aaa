"""HTTP as clients use it: HEAD, empty headers, encodings, old versions, and large answers."""

import gzip
import json
import socket
import time

import httpx
import pytest

from tests.api.routes.test_events import emit
from tests.api.routes.user import CLUSTER, User

JSON = {"Content-Type": "application/json"}


def connect(user: User) -> socket.socket:
    url = httpx.URL(user.http.base_url)
    return socket.create_connection((url.host, url.port or 80), timeout=20)


def talk(user: User, *parts: bytes) -> bytes:
    """Send a request over a connection of its own, and return all that the server sends."""
    with connect(user) as connection:
        for part in parts:
            connection.sendall(part)
        answer = b""
        while piece := connection.recv(65_536):
            answer += piece
        return answer


def head_of(user: User, line: str, *lines: str) -> bytes:
    return "\r\n".join((line, "Host: a", f"Authorization: Bearer {user.secret}", *lines, "", "")).encode()


def test_head_answers_as_get_does_without_the_body(user: User) -> None:
    cluster_id = user.cluster()
    for path in (
        "/v1/clusters",
        f"/v1/clusters/{cluster_id}",
        f"/v1/clusters/{cluster_id}/status",
        "/healthz",
        "/openapi.json",
    ):
        got, head = user.http.get(path), user.http.head(path)
        assert (head.status_code, head.content) == (200, b"")
        for name in ("content-type", "content-length", "etag"):
            assert head.headers.get(name) == got.headers.get(name), (path, name)
    assert user.http.head("/v1/clusters/cls_none").status_code == 404
    assert user.http.head(f"/v1/clusters/{cluster_id}/connect").status_code == 405
    tag = user.http.get("/v1/clusters").headers["etag"]
    assert user.http.head("/v1/clusters", headers={"If-None-Match": tag}).status_code == 304
    assert httpx.head(f"{user.http.base_url}/v1/clusters").status_code == 401


def test_head_of_an_event_stream_ends(user: User) -> None:
    answer = user.http.head(f"/v1/clusters/{user.cluster()}/events", timeout=10)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")


def test_an_empty_header_counts_as_absent(user: User) -> None:
    headers = {"Prefer": "", "If-None-Match": "", "Idempotency-Key": "", "Last-Event-ID": "", "Content-Encoding": ""}
    cluster = user.call("POST", "/v1/clusters", 201, json=CLUSTER, headers=headers)
    path = f"/v1/clusters/{cluster['cluster_id']}"
    assert user.http.get(path, headers=headers).status_code == 200
    assert user.http.get(f"{path}/events", params={"follow": "false"}, headers=headers).status_code == 200


def test_ten_point_zero_is_an_integer(user: User) -> None:
    def refused(epochs: str) -> list[str]:
        body = f'{{"dataset": "/data/x", "epochs": {epochs}}}'.encode()
        answer = user.http.post(f"/v1/clusters/{user.cluster()}/trainings", content=body, headers=JSON)
        return [error["pointer"] for error in answer.json().get("errors", ())]

    assert refused("10.0") == refused("10")
    assert "/epochs" not in refused("1e1")
    for epochs in ("10.5", "true", '"10"', "1e300"):
        assert "/epochs" in refused(epochs), epochs
    assert user.http.get("/v1/clusters", params={"limit": "10.0"}).status_code == 200


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_old_versions_are_answered(user: User, version: str) -> None:
    answer = talk(user, head_of(user, f"GET /v1/clusters HTTP/{version}", "Connection: close"))
    assert answer.split(b"\r\n", 1)[0].endswith(b" 200 OK")
    assert json.loads(answer.rpartition(b"\r\n\r\n")[2])["items"] is not None


def test_a_client_may_wait_for_100_and_send_chunks(user: User) -> None:
    body = json.dumps(CLUSTER).encode()
    lines = ("Content-Type: application/json", "Transfer-Encoding: chunked", "Expect: 100-continue", "Connection: close")
    with connect(user) as connection:
        connection.sendall(head_of(user, "POST /v1/clusters HTTP/1.1", *lines))
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        for part in (body[:3], body[3:], b""):
            connection.sendall(b"%x\r\n%s\r\n" % (len(part), part))
        assert b" 201 Created" in connection.recv(65_536)


@pytest.mark.parametrize("cut", [1, 40, -70, -40, -1])
def test_a_client_that_asks_for_http_2_is_answered_over_http_1(user: User, cut: int) -> None:
    """Java's client asks so with its first request. The body belongs to that request."""
    body = json.dumps(CLUSTER).encode()
    asks = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAAAAIAAAAA")
    head = head_of(user, "POST /v1/clusters HTTP/1.1", *asks, f"Content-Length: {len(body)}", "Content-Type: application/json")
    request = head + body
    with connect(user) as connection:
        for part in (request[:cut], request[cut:]):
            connection.sendall(part)
            time.sleep(0.05)
        assert connection.recv(65_536).startswith(b"HTTP/1.1 201 Created")
        connection.sendall(head_of(user, "GET /v1/clusters HTTP/1.1", "Connection: close"))
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200 OK")


def test_a_body_is_never_the_next_request(user: User) -> None:
    """A request hidden in the body of one that asks for another protocol has no answer."""
    hidden = head_of(user, "DELETE /v1/keys/key_x HTTP/1.1")
    asks = ("Connection: Upgrade, close", "Upgrade: websocket", f"Content-Length: {len(hidden)}")
    answer = talk(user, head_of(user, "POST /v1/clusters HTTP/1.1", *asks, "Content-Type: application/json") + hidden)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1


def test_a_refused_upload_is_not_asked_for(user: User) -> None:
    lines = ("Content-Length: 1000000", "Expect: 100-continue", "Connection: close")
    answer = talk(user, head_of(user, "POST /v1/clusters HTTP/1.1", *lines, "Content-Type: application/json"))
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_a_gzip_body_is_decoded(user: User) -> None:
    encoded = gzip.compress(json.dumps(CLUSTER).encode())
    for content in (encoded, gzip.compress(b'{"name":') + gzip.compress(b' "a"}'), [encoded[:7], encoded[7:]]):
        answer = user.http.post("/v1/clusters", content=content, headers={**JSON, "Content-Encoding": "gzip"})
        assert answer.status_code == 201, answer.text


def test_a_gzip_body_that_is_large_or_broken_is_refused(user: User) -> None:
    headers = {**JSON, "Content-Encoding": "gzip"}
    bomb = gzip.compress(b'{"name": "' + b"a" * 50_000_000 + b'"}')
    assert len(bomb) < 100_000
    assert user.refused("POST", "/v1/clusters", 413, content=bomb, headers=headers)["code"] == "body_too_large"
    for broken in (b"no gzip", gzip.compress(b'{"name": "a"}')[:-5], b""):
        body = user.refused("POST", "/v1/clusters", 400 if broken else 422, content=broken, headers=headers)
        assert not broken or "gzip" in body["detail"]
    answer = user.http.post("/v1/clusters", content=b"{}", headers={**JSON, "Content-Encoding": "br"})
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_encoding")
    assert answer.headers["accept-encoding"] == "gzip, identity"


def test_a_large_answer_is_compressed_for_who_accepts_it(user: User) -> None:
    plain = user.http.get("/openapi.json", headers={"Accept-Encoding": "identity"})
    packed = user.http.get("/openapi.json", headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.content == plain.content
    assert int(packed.headers["content-length"]) < len(plain.content) / 4
    assert "content-encoding" not in user.http.get("/openapi.json", headers={"Accept-Encoding": "gzip;q=0"}).headers
    assert "Accept-Encoding" in plain.headers["vary"]


def test_a_compressed_answer_keeps_its_etag(user: User) -> None:
    for _ in range(40):
        user.cluster()
    path, packed = "/v1/clusters?limit=40", {"Accept-Encoding": "gzip"}
    answer = user.http.get(path, headers=packed)
    assert (answer.headers["content-encoding"], answer.headers["etag"][:2]) == ("gzip", "W/")
    again = user.http.get(path, headers={**packed, "If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_who_has_all_events_of_what_has_ended_is_sent_away(user: User) -> None:
    cluster_id = user.cluster()
    emit(user.rows, cluster_id, 3)
    path = f"/v1/clusters/{cluster_id}/events"
    user.call("POST", f"/v1/clusters/{cluster_id}/terminate", 202)
    user.cluster_ends(cluster_id)
    with httpx.stream("GET", f"{user.http.base_url}{path}", headers=user.http.headers, timeout=30) as answer:
        assert answer.status_code == 200
        last = [line.partition(": ")[2] for line in answer.iter_lines() if line.startswith("id: ")][-1]
    assert user.http.get(path, headers={"Last-Event-ID": str(int(last) - 1)}).status_code == 200
    gone = user.http.get(path, headers={"Last-Event-ID": last})
    assert (gone.status_code, gone.content) == (204, b"")

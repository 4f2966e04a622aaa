"""Clients that send slowly, too much or too deep, or do not read, hold no resources for long."""

import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp, Receive, Scope, Send

from api.http import middleware, server
from api.http.metrics.requests import RequestMetrics
from api.http.middleware import RequestMiddleware
from api.settings import Settings
from tests.api.routes.conftest import make_settings, serving
from tests.api.routes.user import User

HEAD_S = 1.0
LARGE = 7_000_000
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module", autouse=True)
def hasty() -> Iterator[None]:
    """Set timeouts that are short enough for a test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "HEAD_TIMEOUT_S", HEAD_S)
        patch.setattr(middleware, "_BODY_TIMEOUT_S", 1.5)
        patch.setattr(middleware, "_IDLE_TIMEOUT_S", 1.5)
        yield


@pytest.fixture(scope="module")
def settings(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return make_settings(postgres_url, tmp_path_factory.mktemp("models"), max_body_bytes=LARGE + 1_000_000)


def connect(url: str) -> socket.socket:
    address = httpx.URL(url)
    return socket.create_connection((address.host, address.port or 80), timeout=20)


def answer(connection: socket.socket) -> bytes:
    """Return everything that arrives until the server closes the connection."""
    received = b""
    while True:
        try:
            piece = connection.recv(65_536)
        except ConnectionResetError:
            return received
        if not piece:
            return received
        received += piece


@pytest.mark.parametrize("pieces", [[b""], [b"GET /healthz HTT"], [b"GET /healthz HTTP/1.1\r\nHost: a\r\nX-"], [b"\r\n"] * 3])
def test_a_head_that_never_ends_is_not_waited_for(url: str, pieces: list[bytes]) -> None:
    with closing(connect(url)) as connection:
        began = time.monotonic()
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(0.05)
        received = answer(connection)
        assert time.monotonic() - began < HEAD_S + 5
    assert received == b"" or received.startswith(b"HTTP/1.1 408 ")


def test_a_head_that_drips_is_not_waited_for(url: str) -> None:
    with closing(connect(url)) as connection:
        began = time.monotonic()
        with pytest.raises(ConnectionError):
            for number in range(200):
                connection.sendall(f"X-{number}: a\r\n".encode() if number else b"GET / HTTP/1.1\r\n")
                time.sleep(0.1)
        assert time.monotonic() - began < HEAD_S + 5


def test_a_second_head_on_a_used_connection_is_timed_too(url: str) -> None:
    request = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
    with closing(connect(url)) as connection:
        connection.sendall(request)
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")
        time.sleep(HEAD_S * 1.5)
        connection.sendall(request)
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200 "), "an idle connection is not a slow one"
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost")
        assert answer(connection).startswith(b"HTTP/1.1 408 ")


def test_a_request_may_take_longer_than_its_head(url: str, user: User) -> None:
    cluster_id = user.cluster()
    began = time.monotonic()
    user.call("POST", f"/v1/clusters/{cluster_id}/nodes", 202, json={}, headers={"Prefer": "wait=3"})
    assert time.monotonic() - began > HEAD_S * 2


def test_a_head_has_bounds(url: str) -> None:
    with closing(connect(url)) as connection:
        try:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n")
            for number in range(1000):
                connection.sendall(f"X-{number}: {'a' * 1000}\r\n".encode())
        except OSError:
            return
        assert answer(connection).startswith(b"HTTP/1.1 431 ")


def test_a_body_that_drips_is_not_waited_for(url: str, user: User) -> None:
    head = f"POST /v1/clusters HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {user.secret}\r\nContent-Type: application/json\r\n"
    with closing(connect(url)) as connection:
        began = time.monotonic()
        connection.sendall(f'{head}Content-Length: 1000\r\n\r\n{{"name'.encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 408 ")
        assert answer(connection) is not None, "and the connection ends"
        assert time.monotonic() - began < 10


def test_a_client_that_does_not_read_is_let_go() -> None:
    app, ended = FastAPI(), threading.Event()

    @app.get("/endless")
    async def endless() -> StreamingResponse:
        async def chunks() -> AsyncIterator[bytes]:
            while True:
                yield b"x" * 65_536

        return StreamingResponse(chunks())

    def noting_the_end(inner: ASGIApp) -> ASGIApp:
        async def serve_and_note(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await inner(scope, receive, send)
            finally:
                if scope["type"] == "http":
                    ended.set()

        return serve_and_note

    app.add_middleware(RequestMiddleware, max_body_bytes=1000, metrics=RequestMetrics(CollectorRegistry()))
    app.add_middleware(noting_the_end)
    with serving(app) as base, closing(connect(base)) as connection:
        connection.sendall(b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n")
        assert ended.wait(20), "the server still waits for a client that does not read"
        taken = 0
        while piece := connection.recv(1_000_000):
            taken += len(piece)
            assert taken < 100_000_000, "the stream goes on"


@pytest.mark.parametrize(
    ("path", "body", "statuses"),
    [
        ("/v1/clusters/any/predictions", '{"inputs": [' + ",".join(['"a"'] * 1_000_000) + "]}", {422}),
        ("/v1/clusters/any/predictions", '{"inputs": [' + ",".join(["1"] * 1_000_000) + "]}", {422}),
        ("/v1/clusters/any/nodes", '{"capabilities": [' + ",".join(["{}"] * 1_000_000) + "]}", {422}),
        ("/v1/keys", '{"name": "k", "scopes": [' + ",".join(['"x"'] * 1_000_000) + "]}", {403, 422}),
        ("/v1/clusters", '{"name": ' + "[" * 500 + "]" * 500 + "}", {422}),
        ("/v1/clusters", '{"name": ' + "[" * 1_000_000 + "]" * 1_000_000 + "}", {400, 422}),
        ("/v1/clusters", '{"name": ' + '{"a":' * 300_000 + "1" + "}" * 300_000 + "}", {400, 422}),
        ("/v1/clusters", '{"name": "a", ' + ",".join(f'"x{number}": 1' for number in range(400_000)) + "}", {422}),
        ("/v1/clusters", json.dumps({"name": "a" * LARGE}), {422}),
    ],
    ids=["texts", "numbers", "objects", "words", "deep", "very deep", "deep objects", "fields", "long"],
)
def test_large_and_deep_bodies_are_refused_soon(user: User, path: str, body: str, statuses: set[int]) -> None:
    began = time.monotonic()
    answer = user.http.post(path, content=body, headers=JSON)
    took = time.monotonic() - began
    assert answer.status_code in statuses, answer.text[:300]
    assert len(answer.content) < 20_000
    assert took < 15, f"{took:.1f} s"
    assert user.http.get("/healthz").status_code == 200


def test_cors_is_off_and_every_answer_is_careful(user: User, url: str) -> None:
    origin = {"Origin": "https://elsewhere.example", "Access-Control-Request-Method": "POST"}
    answers = [
        user.http.get("/v1/clusters", headers=origin),
        user.http.options("/v1/clusters", headers=origin),
        user.http.get("/v1/nodes/unknown", headers=origin),
        httpx.get(f"{url}/v1/clusters", headers=origin),
        httpx.get(f"{url}/healthz", headers=origin),
        httpx.get(f"{url}/docs", headers=origin),
    ]
    for response in answers:
        assert not [name for name in response.headers if name.startswith("access-control-")]
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["x-frame-options"] == "DENY"
        assert response.headers["referrer-policy"] == "no-referrer"
        assert response.headers["cache-control"] == "no-store"
        assert "server" not in response.headers
    for response in answers[:5]:
        assert response.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"

"""The sandbox provider cannot be reached. Clients get a 503, and nothing else fails."""

from tests.api.routes.user import User


def test_what_needs_the_provider_is_a_503(user: User) -> None:
    node_id = user.running(user.cluster())
    path = f"/v1/sandboxes/{node_id}"
    for method, tail, body in (
        ("GET", "files?path=/x", {}),
        ("PUT", "files?path=/x", {"content": b"x"}),
        ("GET", "logs", {}),
        ("POST", "execute", {"json": {"code": "1"}}),
    ):
        answer = user.http.request(method, f"{path}/{tail}", **body)
        assert answer.status_code == 503, answer.text
        assert answer.json()["code"] == "provider_unavailable"
        assert int(answer.headers["retry-after"]) > 0
    assert user.call("GET", path, 200)["health"] == "unreachable"
    assert user.call("GET", f"/v1/nodes/{node_id}", 200)["status"] == "running"

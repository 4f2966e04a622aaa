"""Files, code and logs through the API, in a real sandbox of the local host."""

import asyncio
import base64
import hashlib
import io
import re
import shutil
import socket
import tarfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from api.settings import Settings
from api.store import transitions
from api.store.tables import ClusterRow, NodeRow
from tests.api.routes.conftest import make_settings
from tests.api.routes.real import start
from tests.api.routes.user import User, problem
from tests.workers.sandboxes.hosting import API_KEY, Host, descendants, stopped
from workers.sandboxes.client import SandboxClient

LIMIT = 300_000


@pytest.fixture(scope="module")
def settings(postgres_url: str, host: Host, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    addresses = {"E2B_API_KEY": API_KEY, "E2B_API_URL": host.url, "E2B_SANDBOX_URL": host.url}
    return make_settings(
        postgres_url, tmp_path_factory.mktemp("models"), max_upload_bytes=LIMIT, execute_max_output=2000, **addresses
    )


@pytest.fixture(scope="module")
def node_id(settings: Settings, user: User) -> str:
    return start(settings, user)


@pytest.fixture
def sandbox(node_id: str) -> str:
    return f"/v1/sandboxes/{node_id}"


def names(user: User, sandbox: str, folder: str) -> list[str]:
    found = user.call("POST", f"{sandbox}/execute", 200, json={"code": f"ls -A {folder}", "language": "bash"})
    return sorted(found["stdout"].split())


def test_a_file_goes_in_and_comes_back(user: User, sandbox: str) -> None:
    content = bytes(range(256)) * 1000
    answer = user.http.put(f"{sandbox}/files", params={"path": "/data/in.bin"}, content=content)
    assert answer.status_code == 201
    assert answer.json() == {"path": "/data/in.bin", "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    back = user.http.get(answer.headers["location"])
    assert back.content == content
    assert back.headers["content-type"] == "application/octet-stream"
    assert back.headers["content-length"] == str(len(content))
    assert back.headers["content-disposition"] == "attachment; filename*=UTF-8''in.bin"
    assert "in.bin" in names(user, sandbox, "/data")


def test_an_empty_file_and_one_in_another_alphabet(user: User, sandbox: str) -> None:
    for path, content in (("/data/names/empty", b""), ("/data/names/müşteri yorumu.json", "çok iyi".encode())):
        assert user.call("PUT", f"{sandbox}/files", 201, params={"path": path}, content=content)["path"] == path
        assert user.http.get(f"{sandbox}/files", params={"path": path}).content == content


def test_a_folder_comes_as_a_tar(user: User, sandbox: str) -> None:
    for name in ("a.txt", "deep/b.txt"):
        user.call("PUT", f"{sandbox}/files", 201, params={"path": f"/data/folder/{name}"}, content=name.encode())
    answer = user.http.get(f"{sandbox}/files", params={"path": "/data/folder"})
    assert answer.headers["content-type"] == "application/x-tar"
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as archive:
        assert {member.name for member in archive if member.isfile()} == {"folder/a.txt", "folder/deep/b.txt"}


@pytest.mark.parametrize(
    "path", ["", "data/x", "/data/../x", "/../../etc/passwd", "/a\nb", "/", "/data/*.json", "/" + "a" * 3000]
)
def test_paths_that_leave_or_name_nothing(user: User, sandbox: str, path: str) -> None:
    for method in ("GET", "PUT"):
        body = user.refused(method, f"{sandbox}/files", 422, params={"path": path})
        assert body["errors"][0]["pointer"] == "/path"
    user.refused("PUT", f"{sandbox}/files", 422, content=b"x")


def test_what_is_not_there(user: User, sandbox: str) -> None:
    assert user.refused("GET", f"{sandbox}/files", 404, params={"path": "/data/none"})["code"] == "file_not_found"


def test_a_file_where_a_folder_is_needed(user: User, sandbox: str) -> None:
    user.call("PUT", f"{sandbox}/files", 201, params={"path": "/data/plain"}, content=b"x")
    answer = user.http.put(f"{sandbox}/files", params={"path": "/data/plain/below"}, content=b"x")
    assert problem(answer, 422)["code"] == "invalid_path"


def test_a_part_of_a_file_replaces_nothing(user: User, sandbox: str) -> None:
    whole, path = b"a\n" * 50, f"{sandbox}/files?path=/data/resumed"
    assert user.http.put(path, content=whole).status_code == 201
    headers = {"Content-Range": "bytes 60-99/100"}
    assert user.refused("PUT", path, 422, content=whole[60:], headers=headers)["code"] == "partial_upload"
    assert user.http.get(path).content == whole


def test_the_digest_of_an_upload_is_checked(user: User, sandbox: str) -> None:
    content, path = b"a\n" * 50_000, f"{sandbox}/files?path=/data/digest/file"

    def header(name: str, data: bytes) -> str:
        return f"{name}=:{base64.b64encode(hashlib.new(name.replace('-', ''), data).digest()).decode()}:"

    right = f"{header('sha-256', content)}, {header('sha-512', content)}"
    assert user.http.put(path, content=content, headers={"Content-Digest": right}).status_code == 201
    for name in ("sha-256", "sha-512"):
        wrong = {"Content-Digest": header(name, content[1:])}
        assert user.refused("PUT", path, 422, content=content[1:] + b"b", headers=wrong)["code"] == "content_digest_mismatch"
    for unusable in ("md5=:AAAA:", "sha-256=abc", "sha-256=:a:", "x"):
        body = user.refused("PUT", path, 422, content=b"b", headers={"Content-Digest": unusable})
        assert (body["code"], body["errors"][0]["pointer"]) == ("invalid_content_digest", "/Content-Digest")
    assert user.http.get(path).content == content
    assert names(user, sandbox, "/data/digest") == ["file"]


def test_only_a_new_file_is_stored_if_the_client_asks_for_it(user: User, sandbox: str) -> None:
    path, new = f"{sandbox}/files?path=/data/new/file", {"If-None-Match": "*"}
    assert user.http.put(path, content=b"first", headers=new).status_code == 201
    assert user.refused("PUT", path, 412, content=b"second", headers=new)["code"] == "file_exists"
    assert user.http.get(path).content == b"first"
    assert user.http.put(path, content=b"third").status_code == 201
    assert user.refused("PUT", path, 422, content=b"x", headers={"If-None-Match": '"a"'})["errors"]
    assert names(user, sandbox, "/data/new") == ["file"]


def test_of_two_uploads_of_a_new_file_one_is_stored(user: User, sandbox: str) -> None:
    path = f"{sandbox}/files?path=/data/race/file"

    def slowly(letter: bytes) -> Iterator[bytes]:
        for _ in range(5):
            time.sleep(0.1)
            yield letter * 1000

    def upload(letter: bytes) -> int:
        return user.http.put(path, content=slowly(letter), headers={"If-None-Match": "*"}).status_code

    with ThreadPoolExecutor(2) as threads:
        assert sorted(threads.map(upload, (b"a", b"b"))) == [201, 412]
    assert len(set(user.http.get(path).content)) == 1
    assert names(user, sandbox, "/data/race") == ["file"]


def test_an_encoded_upload_is_refused(user: User, sandbox: str) -> None:
    path = f"{sandbox}/files?path=/data/encoded"
    for encoding in ("gzip", "br"):
        body = user.refused("PUT", path, 415, content=b"x", headers={"Content-Encoding": encoding})
        assert body["code"] == "unsupported_encoding"


def test_a_form_is_stored_as_its_file_or_refused(user: User, sandbox: str) -> None:
    content, path = b'{"text": "a"}\n{"text": "b"}\n' * 100, f"{sandbox}/files?path=/data/form.jsonl"
    answer = user.http.put(path, files={"file": ("form.jsonl", content)})
    assert answer.status_code == 201
    assert answer.json()["sha256"] == hashlib.sha256(content).hexdigest()
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    joined = content.replace(b"\n", b"")
    assert user.refused("PUT", path, 415, content=joined, headers=headers)["code"] == "form_body"
    files = [("file", ("a", content)), ("file", ("b", content))]
    assert user.refused("PUT", path, 422, files=files)["code"] == "invalid_form"
    assert user.http.get(path).content == content


def test_an_upload_over_the_limit_leaves_nothing(user: User, sandbox: str) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(LIMIT // 1000 + 2):
            yield b"x" * 1000

    body = user.refused("PUT", f"{sandbox}/files", 413, params={"path": "/data/large/file"}, content=pieces())
    assert body["code"] == "upload_too_large"
    assert names(user, sandbox, "/data/large || true") == []


def raw(user: User, sandbox: str, path: str, length: int) -> socket.socket:
    """Open a connection and send only the headers of an upload."""
    url = httpx.URL(user.http.base_url)
    connection = socket.create_connection((url.host, url.port or 80), timeout=20)
    head = f"PUT {sandbox}/files?path={path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {user.secret}\r\n"
    connection.sendall(f"{head}Content-Length: {length}\r\n\r\n".encode())
    return connection


def test_a_large_upload_is_refused_before_its_body(user: User, sandbox: str) -> None:
    with raw(user, sandbox, "/data/large/file", LIMIT + 1) as connection:
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")


def test_an_upload_that_is_cut_off_leaves_nothing(user: User, sandbox: str) -> None:
    with raw(user, sandbox, "/data/cut/file", 200_000) as connection:
        connection.sendall(b"x" * 100_000)
        end = time.monotonic() + 20
        while not names(user, sandbox, "/data/cut || true"):
            assert time.monotonic() < end, "the upload did not begin"
            time.sleep(0.05)
    while names(user, sandbox, "/data/cut"):
        assert time.monotonic() < end, "something is left of the upload"
        time.sleep(0.05)


def test_code_runs_in_the_templates_language(user: User, sandbox: str) -> None:
    answer = user.call("POST", f"{sandbox}/execute", 200, json={"code": "import sys; print(6 * 7); sys.exit(3)"})
    assert (answer["stdout"], answer["stderr"], answer["exit_code"], answer["limit"]) == ("42\n", "", 3, None)
    assert answer["duration_ms"] > 0
    answer = user.call("POST", f"{sandbox}/execute", 200, json={"code": "echo oh >&2", "language": "bash"})
    assert (answer["stdout"], answer["stderr"], answer["exit_code"]) == ("", "oh\n", 0)


def test_the_limits_of_an_execution_are_named(user: User, sandbox: str) -> None:
    slow = user.call("POST", f"{sandbox}/execute", 200, json={"code": "while True: pass", "timeout_s": 1})
    assert (slow["limit"], slow["exit_code"]) == ("timeout", None)
    wide = user.call("POST", f"{sandbox}/execute", 200, json={"code": "print('x' * 10_000_000)"})
    assert wide["limit"] == "output"
    assert 0 < len(wide["stdout"]) <= 2000
    counted = user.http.get("/metrics").text
    for limit in ("timeout", "output"):
        assert re.search(rf'^flow_nexus_sandbox_limits_total{{limit="{limit}"}} [1-9]', counted, re.MULTILINE)
    hits = user.call("GET", sandbox, 200)["limit_hits"]
    assert [hit["limit"] for hit in hits[:2]] == ["output", "timeout"]
    assert all(hit["count"] >= 1 and hit["first_at"] <= hit["last_at"] for hit in hits)


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({}, "/code"),
        ({"code": ""}, "/code"),
        ({"code": "1\x00"}, "/code"),
        ({"code": "1", "language": "perl"}, "/language"),
        ({"code": "1", "timeout_s": 0}, "/timeout_s"),
        ({"code": "1", "timeout_s": 601}, "/timeout_s"),
        ({"code": "1", "env": {"1A": "x"}}, "/env/1A"),
        ({"code": "1", "env": {"A=B": "x"}}, "/env/A=B"),
        ({"code": "1", "env": {"A": "x\x00"}}, "/env/A"),
        ({"code": "1", "env": {"A": 1}}, "/env/A"),
        ({"code": "1", "args": ["x\x00"]}, "/args/0"),
        ({"code": "1", "args": [""] * 1001}, "/args"),
        ({"code": "1", "cwd": "data"}, "/cwd"),
        ({"code": "1", "cwd": "/data/../etc"}, "/cwd"),
        ({"code": "1", "cwd": "/nothing"}, None),
    ],
)
def test_wrong_executions(user: User, sandbox: str, fields: dict[str, Any], pointer: str | None) -> None:
    body = user.refused("POST", f"{sandbox}/execute", 422, json=fields)
    if pointer is None:
        assert (body["code"], "cwd" in body["detail"]) == ("invalid_path", True)
    else:
        assert [error["pointer"] for error in body["errors"]] == [pointer]


def test_code_gets_its_arguments_variables_and_standard_input(user: User, sandbox: str) -> None:
    code = "import os, sys\nprint(sys.argv[1:], os.environ['STEP'], sys.stdin.read(), os.getcwd())"
    asked = {"code": code, "args": ["--a", "b c"], "env": {"STEP": "3"}, "stdin": "in", "cwd": "/data"}
    assert user.call("POST", f"{sandbox}/execute", 200, json=asked)["stdout"] == "['--a', 'b c'] 3 in /data\n"


def test_a_bash_command_that_reads_does_not_consume_the_script(user: User, sandbox: str) -> None:
    asked = {"code": "echo one\ncat >/dev/null\necho two\n", "language": "bash"}
    assert user.call("POST", f"{sandbox}/execute", 200, json=asked)["stdout"] == "one\ntwo\n"


def test_a_language_that_the_machine_has_not(user: User, sandbox: str) -> None:
    asked = {"code": "console.log(6 * 7)", "language": "nodejs"}
    if shutil.which("node"):
        assert user.call("POST", f"{sandbox}/execute", 200, json=asked)["stdout"] == "42\n"
    else:
        assert user.refused("POST", f"{sandbox}/execute", 422, json=asked)["code"] == "unsupported_by_sandbox"


def test_health_use_and_uptime(user: User, sandbox: str, node_id: str) -> None:
    found = user.call("GET", sandbox, 200)
    assert (found["node_id"], found["status"], found["health"]) == (node_id, "running", "ok")
    assert found["uptime_seconds"] > 0
    assert found["usage"]["memory_used_bytes"] > 0
    by_own_id = user.call("GET", f"/v1/sandboxes/{found['sandbox_id']}", 200)
    assert by_own_id["node_id"] == node_id


def test_logs(user: User, sandbox: str) -> None:
    logs = user.call("GET", f"{sandbox}/logs", 200, params={"lines": 5})
    assert len(logs["lines"]) <= 5
    assert all(line.keys() == {"time", "stream", "line"} for line in logs["lines"])
    for lines in ("0", "10001", "x"):
        assert user.refused("GET", f"{sandbox}/logs", 422, params={"lines": lines})["errors"][0]["pointer"] == "/lines"


def test_a_sandbox_that_died_is_told_from_one_that_runs(settings: Settings, user: User) -> None:
    node_id = start(settings, user)
    sandbox_id = user.call("GET", f"/v1/sandboxes/{node_id}", 200)["sandbox_id"]
    assert asyncio.run(SandboxClient(settings).kill(sandbox_id))
    assert user.call("GET", f"/v1/sandboxes/{node_id}", 200)["health"] == "ended"
    path = f"/v1/sandboxes/{node_id}/files"
    assert user.refused("PUT", path, 409, params={"path": "/data/x"}, content=b"x")["code"] == "sandbox_gone"


def test_a_sandbox_that_does_not_answer_still_tells_its_limits(host: Host, user: User, sandbox: str) -> None:
    user.call("POST", f"{sandbox}/execute", 200, json={"code": "while True: pass", "timeout_s": 1})
    with stopped(descendants(host.pid)):
        silent = user.call("GET", sandbox, 200)
    assert (silent["health"], silent["usage"]) == ("unreachable", None)
    assert "timeout" in {hit["limit"] for hit in silent["limit_hits"]}
    assert user.call("GET", sandbox, 200)["health"] == "ok"


def test_a_node_that_does_not_run_takes_no_work(user: User) -> None:
    node_id = user.running(user.cluster())
    with user.rows.unit_of_work() as uow:
        transitions.move(uow.session, uow.session.get_one(NodeRow, node_id), "lost")
    for method, path in (("GET", "files?path=/x"), ("PUT", "files?path=/x"), ("GET", "logs")):
        assert user.refused(method, f"/v1/sandboxes/{node_id}/{path}", 409)["code"] == "sandbox_not_running"
    assert user.refused("POST", f"/v1/sandboxes/{node_id}/execute", 409, json={"code": "1"})["code"] == "sandbox_not_running"


def test_the_host_is_named_with_its_isolation(settings: Settings, user: User) -> None:
    found = httpx.get(f"{user.http.base_url}/readyz", timeout=30).json()["sandboxes"]
    assert (found["ok"], found["kind"]) == (True, "local")
    assert found["isolation"]


def unused_seconds(user: User, node_id: str) -> float:
    """Return the seconds since the cluster was last in use."""
    with user.rows.unit_of_work() as uow:
        cluster = uow.session.get_one(ClusterRow, uow.session.get_one(NodeRow, node_id).cluster_id)
        assert cluster.last_call_at is not None
        return (datetime.now(UTC) - cluster.last_call_at).total_seconds()


def test_a_long_execution_keeps_its_cluster_in_use(user: User, sandbox: str, node_id: str) -> None:
    user.call("POST", f"{sandbox}/execute", 200, json={"code": "import time; time.sleep(6)"})
    assert unused_seconds(user, node_id) < 4


def test_a_slow_upload_keeps_its_cluster_in_use(user: User, sandbox: str, node_id: str) -> None:
    with raw(user, sandbox, "/data/slow", 600) as connection:
        for _ in range(6):
            connection.sendall(b"x" * 100)
            time.sleep(1.5)
        assert connection.recv(100).startswith(b"HTTP/1.1 201 ")
    assert unused_seconds(user, node_id) < 7

"""The plain E2B SDK, synchronous and asynchronous, against the local host.

A call works as at E2B, or its error says that it is not supported.
"""

import asyncio
import io
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import e2b
import httpx
import pytest
from e2b import AsyncSandbox, Sandbox
from e2b.api.client.api.sandboxes import get_sandboxes_sandbox_id_logs, get_v_2_sandboxes_sandbox_id_logs
from e2b.api.client.models import SandboxLogs, SandboxLogsV2Response
from e2b.api.client_sync import get_api_client
from e2b.exceptions import (
    AuthenticationException,
    FileNotFoundException,
    InvalidArgumentException,
    SandboxException,
    TimeoutException,
)
from e2b.sandbox.filesystem.watch_handle import FilesystemEventType

from tests.workers.sandboxes.hosting import Host, descendants, resident_bytes

LARGE = 50_000_000


@pytest.fixture(scope="module", autouse=True)
def _isolated(host: Host) -> None:
    if host.health["isolation"] == "none":
        pytest.skip("without isolation a command's paths are the machine's")


@pytest.fixture(scope="module")
def sandbox(host: Host) -> Iterator[Sandbox]:
    made = Sandbox.create("python", timeout=300, metadata={"team": "a b&c=d", "n": "1"}, envs={"GIVEN": "yes"}, **host.options)
    yield made
    assert made.kill() is True
    assert made.kill() is False


class TestContract:
    def test_life(self, host: Host) -> None:
        key = str(uuid.uuid4())
        made = Sandbox.create("flow-nexus-python", timeout=60, idempotency_key=key, **host.options)
        again = Sandbox.create("flow-nexus-python", timeout=60, idempotency_key=key, **host.options)
        assert made.sandbox_id == again.sandbox_id
        with pytest.raises(SandboxException, match="409"):
            Sandbox.create("nodejs", timeout=60, idempotency_key=key, **host.options)
        assert made.is_running()
        made.set_timeout(500)
        info = made.get_info()
        assert (info.name, info.state, info.envd_version) == ("flow-nexus-python", e2b.SandboxState.RUNNING, "0.6.1")
        assert 490 < (info.end_at - info.started_at).total_seconds() < 520
        other = Sandbox.connect(made.sandbox_id, timeout=10, **host.options)
        assert other.get_info().end_at == info.end_at, "connecting shortens nothing"
        assert other.commands.run("echo same").stdout == "same\n"
        assert made.kill()
        assert not made.is_running()
        with pytest.raises(TimeoutException, match="not found"):
            made.commands.run("true")

    def test_list_by_metadata_and_page(self, host: Host, sandbox: Sandbox) -> None:
        mark = uuid.uuid4().hex
        made = [Sandbox.create("base", timeout=60, metadata={"mark": mark, "i": str(i)}, **host.options) for i in range(3)]
        pages = Sandbox.list(query=e2b.SandboxQuery(metadata={"mark": mark}), limit=2, **host.options)
        first = pages.next_items()
        assert (len(first), pages.has_next) == (2, True)
        second = pages.next_items()
        assert (len(second), pages.has_next) == (1, False)
        ids = [info.sandbox_id for info in first + second]
        assert ids == [one.sandbox_id for one in reversed(made)], "newest first"
        odd = Sandbox.list(query=e2b.SandboxQuery(metadata={"team": "a b&c=d"}), **host.options).next_items()
        assert [info.sandbox_id for info in odd] == [sandbox.sandbox_id]
        paused = Sandbox.list(query=e2b.SandboxQuery(state=[e2b.SandboxState.PAUSED]), **host.options).next_items()
        assert paused == []
        for one in made:
            one.kill()

    def test_files(self, sandbox: Sandbox) -> None:
        files = sandbox.files
        assert files.write("/data/a.txt", "text").path == "/data/a.txt"
        assert files.read("/data/a.txt") == "text"
        files.write("notes/b.bin", b"\x00\xff", gzip=True)
        assert bytes(files.read("/home/user/notes/b.bin", format="bytes")) == b"\x00\xff"
        written = files.write_files([{"path": "/data/m/1", "data": "one"}, {"path": "/data/m/2", "data": io.BytesIO(b"two")}])
        assert [item.path for item in written] == ["/data/m/1", "/data/m/2"]
        multipart = files.write_files([{"path": "/data/m/3", "data": "three"}, {"path": "/data/m/4", "data": "four\r\n--x"}])
        assert [files.read(item.path) for item in multipart] == ["three", "four\r\n--x"]
        assert {item.name: item.size for item in files.list("/data/m")} == {"1": 3, "2": 3, "3": 5, "4": 9}
        assert "m/2" in [item.path.removeprefix("/data/") for item in files.list("/data", depth=2)]
        assert files.make_dir("/data/d") is True
        assert files.make_dir("/data/d") is False
        assert files.rename("/data/a.txt", "/data/d/moved.txt").path == "/data/d/moved.txt"
        info = files.get_info("/data/d/moved.txt")
        assert (info.size, info.owner, info.permissions) == (4, "user", "-rw-r--r--")
        assert not files.exists("/data/a.txt")
        files.remove("/data/d")
        with pytest.raises(FileNotFoundException):
            files.read("/data/d/moved.txt")
        with pytest.raises(FileNotFoundException):
            files.list("/data/d")
        with pytest.raises(InvalidArgumentException):
            files.read("/data/m")

    def test_watch(self, sandbox: Sandbox) -> None:
        sandbox.files.write("/data/watched/old.txt", "1")
        handle = sandbox.files.watch_dir("/data/watched", recursive=True)
        sandbox.files.write("/data/watched/sub/new.txt", "1")
        sandbox.files.rename("/data/watched/old.txt", "/data/watched/renamed.txt")
        events = {(event.name, event.type) for event in handle.get_new_events()}
        assert {
            ("sub/new.txt", FilesystemEventType.CREATE),
            ("old.txt", FilesystemEventType.RENAME),
            ("renamed.txt", FilesystemEventType.CREATE),
        } <= events
        handle.stop()

    def test_commands(self, sandbox: Sandbox) -> None:
        result = sandbox.commands.run("echo $GIVEN $MORE; pwd; echo no >&2", envs={"MORE": "too"}, cwd="/data")
        assert (result.stdout, result.stderr, result.exit_code) == ("yes too\n/data\n", "no\n", 0)
        with pytest.raises(e2b.CommandExitException) as failed:
            sandbox.commands.run("exit 3")
        assert failed.value.exit_code == 3
        with pytest.raises(TimeoutException):
            sandbox.commands.run("sleep 30", timeout=0.5)
        reader = sandbox.commands.run("cat; echo done", background=True, stdin=True)
        assert reader.pid in [process.pid for process in sandbox.commands.list()]
        sandbox.commands.send_stdin(reader.pid, "line\n")
        sandbox.commands.close_stdin(reader.pid)
        assert reader.wait().stdout == "line\ndone\n"
        sleeper = sandbox.commands.run("sleep 60", background=True)
        attached = sandbox.commands.connect(sleeper.pid)
        assert attached.kill() is True
        with pytest.raises(e2b.CommandExitException):
            sleeper.wait()
        assert sandbox.commands.kill(sleeper.pid) is False
        with pytest.raises(InvalidArgumentException):
            sandbox.commands.run("true", user="root")

    def test_logs_and_metrics(self, sandbox: Sandbox) -> None:
        service = sandbox.commands.run("echo out; echo err >&2; sleep 60", background=True, timeout=0)
        client = get_api_client(sandbox.connection_config)
        for _ in range(100):
            answer = get_v_2_sandboxes_sandbox_id_logs.sync(sandbox.sandbox_id, client=client)
            assert isinstance(answer, SandboxLogsV2Response)
            lines = {entry.message: entry.fields.additional_properties["stream"] for entry in answer.logs}
            if {"out", "err"} <= lines.keys():
                break
            time.sleep(0.05)
        assert (lines["out"], lines["err"]) == ("stdout", "stderr")
        older = get_sandboxes_sandbox_id_logs.sync(sandbox.sandbox_id, client=client)
        assert isinstance(older, SandboxLogs)
        assert {"out", "err"} <= {entry.line for entry in older.logs}
        service.kill()
        (measured,) = sandbox.get_metrics()
        assert measured.mem_total == 512 << 20
        assert 0 < measured.mem_used < measured.mem_total

    def test_async(self, host: Host) -> None:
        async def walk() -> None:
            made = await AsyncSandbox.create("nodejs", timeout=60, **host.options)
            heard: list[str] = []
            await made.files.write("/data/x.txt", "async")
            result = await made.commands.run("cat /data/x.txt; sleep 0.1; echo end", on_stdout=heard.append)
            assert result.stdout == "asyncend\n" == "".join(heard)
            seen = asyncio.Event()
            watch = await made.files.watch_dir("/data", on_event=lambda event: seen.set())
            await made.files.write("/data/y.txt", "new")
            async with asyncio.timeout(10):
                await seen.wait()
            await watch.stop()  # type: ignore[no-untyped-call]
            assert len(await asyncio.gather(*(made.commands.run(f"echo {i}") for i in range(8)))) == 8
            assert [found.sandbox_id for found in await AsyncSandbox.list(**host.options).next_items()].count(
                made.sandbox_id
            ) == 1
            assert await made.kill()

        asyncio.run(walk())

    @pytest.mark.skipif(not Path("/proc").exists(), reason="looks into /proc")
    def test_large_files_stream_through_in_constant_memory(self, host: Host, sandbox: Sandbox) -> None:
        """The memory of the host and of envd does not grow with the size of a file."""
        watched = [host.pid, *descendants(host.pid)]
        before = [resident_bytes(pid) for pid in watched]
        grown = 0

        def look() -> None:
            nonlocal grown
            now = [resident_bytes(pid) for pid in watched]
            grown = max(grown, *(after - start for after, start in zip(now, before, strict=True)))

        def pieces() -> Iterator[bytes]:
            for _ in range(LARGE // 1_000_000):
                yield bytes(1_000_000)
                look()

        sandbox.files.write("/data/large.bin", pieces())
        size = 0
        for number, chunk in enumerate(sandbox.files.read("/data/large.bin", format="stream")):
            size += len(chunk)
            if number % 50 == 0:
                look()
        assert size == LARGE
        assert grown < 16_000_000
        sandbox.files.remove("/data/large.bin")

    def test_keys_and_tokens_are_checked(self, host: Host, sandbox: Sandbox) -> None:
        with pytest.raises(AuthenticationException):
            Sandbox.list(**{**host.options, "api_key": "another-key-of-that-length"}).next_items()
        assert httpx.get(f"{host.url}/v2/sandboxes").status_code == 401
        route = {"E2b-Sandbox-Id": sandbox.sandbox_id, "E2b-Sandbox-Port": "49983"}
        for token in ({}, {"X-Access-Token": "wrong"}, {"X-API-Key": host.options["api_key"]}):
            answer = httpx.get(f"{host.url}/files?path=/etc/passwd", headers={**route, **token})
            assert (answer.status_code, "passwd" in answer.text) == (401, False)

    def test_traffic_to_ports(self, host: Host) -> None:
        made = Sandbox.create("python", timeout=60, network={"allow_public_traffic": False}, **host.options)
        open_one = Sandbox.create("python", timeout=60, **host.options)
        for one in (made, open_one):
            one.files.write("/data/page", "x" * 100_000)
            one.commands.run("exec python -m http.server 9000 --directory /data", background=True, timeout=0)
        token = {"e2b-traffic-access-token": made.traffic_access_token or ""}

        def fetch(one: Sandbox, extra: dict[str, str], port: int = 9000) -> httpx.Response:
            route = {"E2b-Sandbox-Id": one.sandbox_id, "E2b-Sandbox-Port": str(port)}
            return httpx.get(f"{host.url}/page", headers={**route, **extra})

        for _ in range(100):
            if fetch(made, token).status_code == fetch(open_one, {}).status_code == 200:
                break
            time.sleep(0.05)
        assert len(fetch(made, token).content) == len(fetch(open_one, {}).content) == 100_000
        assert fetch(made, {}).status_code == 403
        assert fetch(made, {"e2b-traffic-access-token": "wrong"}).status_code == 403
        closed = fetch(made, token, 9001)
        assert (closed.status_code, closed.json()["message"]) == (502, "The sandbox is running but port is not open")
        made.kill()
        open_one.kill()
        assert fetch(made, token).status_code == 502

    def test_what_is_missing_says_so(self, host: Host, sandbox: Sandbox) -> None:
        key = {"X-API-Key": host.options["api_key"]}
        for method, path in (
            ("POST", f"/sandboxes/{sandbox.sandbox_id}/pause"),
            ("POST", f"/sandboxes/{sandbox.sandbox_id}/snapshots"),
            ("GET", "/v2/templates"),
            ("GET", "/volumes"),
        ):
            answer = httpx.request(method, f"{host.url}{path}", headers=key)
            assert (answer.status_code, answer.json()["code"]) == (501, 501)
        with pytest.raises(SandboxException, match="404"):
            Sandbox.create("cobol", **host.options)
        with pytest.raises(SandboxException, match="501"):
            Sandbox.create("python", lifecycle={"on_timeout": "pause"}, **host.options)
        with pytest.raises(SandboxException, match="pseudo-terminals"):
            sandbox.pty.create(size=e2b.PtySize(rows=10, cols=10))

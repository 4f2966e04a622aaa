"""The real client against a real host keeps what `SandboxProvider` promises."""

import hashlib
import io
import tarfile
import time
import uuid
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from api.domain.sandboxes import (
    SandboxError,
    SandboxFileNotFoundError,
    SandboxFullError,
    SandboxInfo,
    SandboxNotFoundError,
    SandboxPathError,
    SandboxUnavailableError,
    SandboxUnsupportedError,
)
from workers.sandboxes.client import SandboxClient

from .hosting import Host, run, spec, stream


@pytest.fixture(scope="module")
def client(host: Host) -> SandboxClient:
    return host.client()


@pytest.fixture(scope="module")
def sandbox(client: SandboxClient) -> Iterator[str]:
    info = run(client.create(spec(uuid.uuid4().hex, purpose="client tests")))
    yield info.sandbox_id
    assert run(client.kill(info.sandbox_id))


def names(client: SandboxClient, sandbox: str, folder: str) -> list[str]:
    return run(client.run(sandbox, f'ls -A "${{SANDBOX_ROOT-}}{folder}"', timeout_s=10, max_output=10_000)).stdout.split()


class TestLife:
    def test_a_key_names_one_sandbox(self, client: SandboxClient) -> None:
        key = uuid.uuid4().hex
        first = run(client.create(spec(key, step="one")))
        again = run(client.create(spec(key, step="one")))
        assert again.sandbox_id == first.sandbox_id
        with pytest.raises(SandboxError):
            run(client.create(spec(key, step="other")))
        assert run(client.kill(first.sandbox_id)) is True
        assert run(client.kill(first.sandbox_id)) is False
        assert run(client.create(spec(key, step="one"))).sandbox_id != first.sandbox_id

    def test_a_sandbox_is_described_and_found_by_its_metadata(self, client: SandboxClient, sandbox: str) -> None:
        info = run(client.get(sandbox))
        assert isinstance(info, SandboxInfo)
        assert (info.template, info.state, info.memory_mb) == ("python", "running", 512)
        assert 0 < (info.end_at - info.started_at).total_seconds() <= 300
        assert sandbox in [found.sandbox_id for found in run(client.list({"purpose": "client tests"}))]
        assert run(client.list({"purpose": "none"})) == []

    def test_extending_puts_the_end_off(self, client: SandboxClient, sandbox: str) -> None:
        run(client.extend(sandbox, 1000))
        info = run(client.get(sandbox))
        assert (info.end_at - info.started_at).total_seconds() > 900

    def test_an_unknown_sandbox_or_template_is_an_error_of_its_own(self, client: SandboxClient) -> None:
        with pytest.raises(SandboxNotFoundError):
            run(client.get("inone"))
        with pytest.raises(SandboxNotFoundError):
            run(client.run("inone", "true", timeout_s=5, max_output=10))
        with pytest.raises(SandboxNotFoundError):
            run(client.logs("inone", 10))
        with pytest.raises(SandboxUnsupportedError):
            run(client.create(spec(uuid.uuid4().hex, template="cobol")))

    def test_a_sandbox_that_another_process_ended_is_not_found(self, host: Host, client: SandboxClient) -> None:
        info = run(client.create(spec(uuid.uuid4().hex)))
        assert run(client.run(info.sandbox_id, "echo 1", timeout_s=5, max_output=10)).stdout == "1\n"
        run(host.client().kill(info.sandbox_id))
        with pytest.raises(SandboxNotFoundError):
            run(client.run(info.sandbox_id, "echo 1", timeout_s=5, max_output=10))

    def test_status_tells_the_isolation(self, host: Host, client: SandboxClient) -> None:
        status = run(client.status())
        assert status.ok
        assert status.kind == "local"
        assert (status.isolation, status.warning) == (host.health["isolation"], host.health["warning"])

    def test_metrics_are_measured(self, host: Host, client: SandboxClient, sandbox: str) -> None:
        run(client.upload(sandbox, "/data/weight.bin", stream(b"x" * 3_000_000)))
        measured = run(client.metrics(sandbox))
        if host.health["isolation"] == "none":
            assert measured is None, "its processes cannot be distinguished from the machine's"
            return
        assert measured is not None
        assert measured.disk_used_bytes is not None
        assert 3_000_000 <= measured.disk_used_bytes < 30_000_000
        assert measured.memory_total_bytes == 512 << 20
        assert measured.memory_used_bytes is not None
        assert 1_000_000 < measured.memory_used_bytes < 512 << 20


class TestFiles:
    def test_an_upload_is_measured_and_made_with_its_folders(self, client: SandboxClient, sandbox: str) -> None:
        chunks = [bytes([number]) * 100_000 for number in range(5)]
        stored = run(client.upload(sandbox, "/data/deep/er/file.bin", stream(*chunks)))
        whole = b"".join(chunks)
        assert (stored.path, stored.size) == ("/data/deep/er/file.bin", len(whole))
        assert stored.sha256 == hashlib.sha256(whole).hexdigest()
        assert run(self._read(client, sandbox, "/data/deep/er/file.bin")) == whole

    def test_a_cut_upload_leaves_nothing_and_keeps_the_old_file(self, client: SandboxClient, sandbox: str) -> None:
        run(client.upload(sandbox, "/data/cut/kept.txt", stream(b"old")))

        async def cut() -> AsyncIterator[bytes]:
            yield b"new" * 100_000
            raise ConnectionAbortedError("the client went away")

        with pytest.raises(ConnectionAbortedError):
            run(client.upload(sandbox, "/data/cut/kept.txt", cut()))
        assert names(client, sandbox, "/data/cut") == ["kept.txt"]
        assert run(self._read(client, sandbox, "/data/cut/kept.txt")) == b"old"

    @pytest.mark.parametrize("path", ["data/x", "/data/../etc/passwd", "..", "/", "", "/data/a\0b"])
    def test_only_plain_absolute_paths_are_taken(self, client: SandboxClient, sandbox: str, path: str) -> None:
        with pytest.raises(SandboxPathError):
            run(client.upload(sandbox, path, stream(b"x")))
        with pytest.raises(SandboxPathError):
            run(client.download(sandbox, path))

    def test_a_folder_is_not_overwritten_and_a_file_is_no_folder(self, client: SandboxClient, sandbox: str) -> None:
        run(client.upload(sandbox, "/data/folder/file", stream(b"x")))
        with pytest.raises(SandboxPathError):
            run(client.upload(sandbox, "/data/folder", stream(b"x")))
        with pytest.raises(SandboxPathError):
            run(client.upload(sandbox, "/data/folder/file/below", stream(b"x")))
        assert names(client, sandbox, "/data/folder") == ["file"]

    def test_places_outside_the_own_folders_cannot_be_written(self, host: Host, client: SandboxClient, sandbox: str) -> None:
        if host.health["isolation"] == "none":
            pytest.skip("nothing is read-only without isolation")
        with pytest.raises(SandboxError):
            run(client.upload(sandbox, "/usr/lib/x", stream(b"x")))
        with pytest.raises(SandboxError):
            run(client.upload(sandbox, "/new", stream(b"x")))

    def test_a_folder_comes_as_tar_with_relative_names(self, client: SandboxClient, sandbox: str) -> None:
        run(client.upload(sandbox, "/export/model one/config.json", stream(b"{}")))
        run(client.upload(sandbox, "/export/model one/sub/weights", stream(b"w" * 100_000)))
        packed = io.BytesIO(run(self._read(client, sandbox, "/export/model one")))
        with tarfile.open(fileobj=packed) as archive:
            files = {member.name: member.size for member in archive if member.isfile()}
        assert files == {"model one/config.json": 2, "model one/sub/weights": 100_000}
        assert not [name for name in names(client, sandbox, "/tmp") if name.endswith(".tar")]

    def test_what_is_missing_is_not_found(self, client: SandboxClient, sandbox: str) -> None:
        with pytest.raises(SandboxFileNotFoundError):
            run(client.download(sandbox, "/data/nothing"))

    def test_a_file_above_the_disk_limit_does_not_fit(self, client: SandboxClient, sandbox: str) -> None:
        with pytest.raises(SandboxFullError):
            run(client.upload(sandbox, "/data/full/file", stream(*[bytes(1 << 20)] * 130)))
        assert names(client, sandbox, "/data/full") == []

    @staticmethod
    async def _read(client: SandboxClient, sandbox: str, path: str) -> bytes:
        download = await client.download(sandbox, path)
        data = b"".join([chunk async for chunk in download.chunks])
        assert download.size in (None, len(data))
        return data

    def test_a_folder_is_listed_with_its_folders_first(self, client: SandboxClient, sandbox: str) -> None:
        run(client.upload(sandbox, "/data/listed/a.json", stream(b"abc")))
        run(client.upload(sandbox, "/data/listed/z/deep.json", stream(b"x")))
        entries = run(client.list_files(sandbox, "/data/listed"))
        assert [(entry.name, entry.kind, entry.size) for entry in entries] == [("z", "folder", None), ("a.json", "file", 3)]
        assert all(abs(entry.modified_at.timestamp() - time.time()) < 600 for entry in entries)
        with pytest.raises(SandboxFileNotFoundError):
            run(client.list_files(sandbox, "/data/listed/nothing"))
        with pytest.raises(SandboxError):
            run(client.list_files(sandbox, "/data/listed/a.json"))


class TestCommands:
    def test_a_result_has_everything(self, client: SandboxClient, sandbox: str) -> None:
        result = run(client.run(sandbox, "cat; echo err >&2; exit 7", timeout_s=10, max_output=1000, stdin="in\n"))
        assert (result.stdout, result.stderr, result.exit_code, result.limit) == ("in\n", "err\n", 7, None)
        assert 0 < result.duration_ms < 10_000

    def test_python_runs_by_default_and_other_languages_by_name(self, client: SandboxClient, sandbox: str) -> None:
        code = "import sys\nprint(sum(range(10)), sys.version_info.major)\n"
        assert run(client.execute(sandbox, code, language=None, timeout_s=20, max_output=1000)).stdout == "45 3\n"
        shell = run(client.execute(sandbox, "for i in 1 2; do echo $i; done", language="bash", timeout_s=20, max_output=1000))
        assert shell.stdout == "1\n2\n"
        with pytest.raises(SandboxUnsupportedError):
            run(client.execute(sandbox, "x", language="cobol", timeout_s=20, max_output=1000))

    def test_a_nodejs_sandbox_runs_modules_or_says_that_it_cannot(self, client: SandboxClient) -> None:
        info = run(client.create(spec(uuid.uuid4().hex, template="nodejs")))
        code = "import { basename } from 'node:path'; console.log(basename('/a/b'), await Promise.resolve(2));"
        has_node = run(client.run(info.sandbox_id, "command -v node", timeout_s=10, max_output=100)).exit_code == 0
        if has_node:
            assert run(client.execute(info.sandbox_id, code, language=None, timeout_s=20, max_output=100)).stdout == "b 2\n"
        else:
            with pytest.raises(SandboxUnsupportedError):
                run(client.execute(info.sandbox_id, code, language=None, timeout_s=20, max_output=100))
        assert run(client.kill(info.sandbox_id))

    def test_a_long_program_comes_through_whole(self, client: SandboxClient, sandbox: str) -> None:
        code = "text = '''" + "x" * 3_000_000 + "'''\nprint(len(text))"
        assert run(client.execute(sandbox, code, language="python", timeout_s=30, max_output=100)).stdout == "3000000\n"

    def test_the_timeout_ends_the_whole_group(self, client: SandboxClient, sandbox: str) -> None:
        code = "import subprocess, time\nsubprocess.Popen(['sleep', '4242'])\nprint('begun', flush=True)\ntime.sleep(60)"
        result = run(client.execute(sandbox, code, language="python", timeout_s=1.5, max_output=1000))
        assert (result.stdout, result.exit_code, result.limit) == ("begun\n", None, "timeout")
        left = run(client.run(sandbox, "pgrep -f '[s]leep 4242' || true", timeout_s=10, max_output=100))
        assert left.stdout == ""

    def test_a_process_that_ignores_sigterm_ends_too(self, client: SandboxClient, sandbox: str) -> None:
        command = "trap '' TERM INT HUP; while true; do sleep 0.1; done"
        assert run(client.run(sandbox, command, timeout_s=0.5, max_output=100)).limit == "timeout"

    @pytest.mark.parametrize("target", ["stdout", "stderr"])
    def test_output_is_cut_at_its_limit(self, client: SandboxClient, sandbox: str, target: str) -> None:
        code = f"import sys\nwhile True: sys.{target}.write('0123456789' * 1000)"
        result = run(client.execute(sandbox, code, language="python", timeout_s=30, max_output=25_000))
        assert result.limit == "output"
        assert len(getattr(result, target)) == 25_000

    def test_output_of_exactly_the_limit_is_whole(self, client: SandboxClient, sandbox: str) -> None:
        result = run(client.run(sandbox, "printf 12345", timeout_s=10, max_output=5))
        assert (result.stdout, result.limit) == ("12345", None)

    def test_a_service_goes_on_and_its_output_is_in_the_log(self, client: SandboxClient, sandbox: str) -> None:
        before = time.time()
        pid = run(client.start(sandbox, "echo served; echo trouble >&2; exec sleep 300"))
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            lines = {line.line: line for line in run(client.logs(sandbox, 50))}
            if {"served", "trouble"} <= lines.keys():
                break
        assert (lines["served"].stream, lines["trouble"].stream) == ("stdout", "stderr")
        assert before - 1 < lines["served"].time.timestamp() < time.time() + 1
        assert run(client.run(sandbox, f"kill -0 {pid} && echo alive", timeout_s=5, max_output=100)).stdout == "alive\n"

    def test_what_is_executed_yields_to_services(self, client: SandboxClient, sandbox: str) -> None:
        code = """
import os, time
path = os.path.expanduser("~/niceness")
while not os.path.exists(path) or not open(path).read():
    time.sleep(0.05)
print(os.nice(0) > int(open(path).read()))
"""
        run(client.start(sandbox, "nice > ~/niceness"))
        assert run(client.execute(sandbox, code, language="python", timeout_s=20, max_output=100)).stdout == "True\n"

    def test_what_execute_prints_stays_out_of_the_log(self, client: SandboxClient, sandbox: str) -> None:
        run(client.execute(sandbox, "print('private line')", language="python", timeout_s=10, max_output=100))
        assert "private line" not in [line.line for line in run(client.logs(sandbox, 1000))]


class TestPorts:
    def test_a_port_is_reached_from_outside_and_by_peers_with_its_token_only(self, host: Host, client: SandboxClient) -> None:
        server, peer = (run(client.create(spec(uuid.uuid4().hex))).sandbox_id for _ in range(2))
        run(client.upload(server, "/data/served.txt", stream(b"from inside")))
        run(client.start(server, 'exec python -m http.server 8000 --directory "${SANDBOX_ROOT-}/data"'))
        endpoint = run(client.endpoint(server, 8000))
        deadline = time.monotonic() + 15
        while (answer := httpx.get(f"{endpoint.url}/served.txt", headers=endpoint.headers)).status_code == 502:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert answer.text == "from inside"
        keyless = {name: value for name, value in endpoint.headers.items() if "token" not in name}
        assert httpx.get(f"{endpoint.url}/served.txt", headers=keyless).status_code == 403

        way = run(client.peer_endpoint(server, 8000))
        code = (
            "import httpx\n"
            f"with httpx.Client(transport=httpx.HTTPTransport(uds={way.uds!r})) as client:\n"
            f"    print(client.get('{way.url}/served.txt', headers={dict(way.headers)!r}).text)\n"
            f"    print(client.get('{way.url}/served.txt', headers={keyless!r}).status_code)\n"
        )
        result = run(client.execute(peer, code, language="python", timeout_s=20, max_output=1000))
        assert result.stdout == "from inside\n403\n", result.stderr
        for sandbox_id in (server, peer):
            run(client.kill(sandbox_id))


def test_a_host_that_does_not_answer_is_unavailable(host: Host) -> None:
    client = host.client(url="http://127.0.0.1:9")
    with pytest.raises(SandboxUnavailableError):
        run(client.get("i1"))
    assert run(client.status()).ok is False

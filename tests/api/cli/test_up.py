"""`flow-nexus up`: its process, its output, its files, and what remains when it ends."""

import json
import os
import shlex
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psycopg
import pytest
from e2b import Sandbox
from e2b.connection_config import ApiParams
from sqlalchemy import make_url

from tests.e2e.walk import Walk

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
SERVICES = ("postgres", "redis", "sandboxes", "worker", "beat", "api")


@dataclass
class Up:
    home: Path
    port: int
    process: subprocess.Popen[str]

    def next_line(self, start: str) -> str:
        """Return the next line that starts with `start`. Skip the lines before it."""
        assert self.process.stdout
        skipped = []
        for line in self.process.stdout:
            if line.startswith(start):
                return line.rstrip("\n")
            skipped.append(line)
        raise AssertionError(f"no line {start!r}: {skipped}, stderr {self.errors()!r}")

    def ready(self) -> None:
        self.next_line("stop it")

    def errors(self) -> str:
        assert self.process.stderr
        return self.process.stderr.read()

    def file(self, name: str) -> dict[str, str]:
        return dict(pair.split("=", 1) for pair in shlex.split((self.home / name).read_text()))

    def e2b(self) -> ApiParams:
        values = self.file("env")
        return {
            "api_key": values["E2B_API_KEY"],
            "api_url": values["E2B_API_URL"],
            "sandbox_url": values["E2B_SANDBOX_URL"],
            "http_version": "1.1",
        }

    def walk(self) -> Walk:
        values = self.file("env")
        return Walk(values["FLOW_NEXUS_URL"], values["FLOW_NEXUS_API_KEY"])


@contextmanager
def up(home: Path, port: int | None = None, **variables: str) -> Iterator[Up]:
    port = port or free_port()
    argv = [sys.executable, "-m", "api.cli.main", "up", "--home", str(home), "--port", str(port), "--concurrency", "4"]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("FLOW_NEXUS_", "E2B_"))}
    # No test here has a node, and a warm agent's libraries take seconds to import.
    clean["FLOW_NEXUS_WARM_AGENTS"] = "off"
    process = subprocess.Popen(
        argv, env={**clean, **variables}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL
    )
    try:
        yield Up(home, port, process)
    finally:
        process.terminate()
        try:
            process.communicate(timeout=15)
        finally:
            process.kill()


@pytest.fixture(scope="module")
def home(postgres_folder: Path) -> Path:
    """Return a path that is too long for a socket, and has a space."""
    return postgres_folder / ("a long folder " + "x" * 90)


@pytest.fixture(scope="module")
def running(home: Path) -> Iterator[Up]:
    with up(home) as started:
        started.ready()
        yield started


def test_files_for_users_and_operators(running: Up) -> None:
    env, operator = running.file("env"), running.file("operator.env")
    sandboxes = {name: value for name, value in operator.items() if name.startswith("E2B_")}
    assert set(sandboxes) == {"E2B_API_URL", "E2B_SANDBOX_URL", "E2B_API_KEY", "E2B_HTTP_VERSION"}
    assert set(env) - set(sandboxes) == {"FLOW_NEXUS_URL", "FLOW_NEXUS_API_KEY"}
    assert env["FLOW_NEXUS_URL"] == f"http://127.0.0.1:{running.port}"
    assert env["E2B_API_KEY"].startswith("e2b_")
    for name in ("env", "operator.env", "secrets", "redis.conf"):
        assert stat.S_IMODE((running.home / name).stat().st_mode) == 0o600, name
    assert not stat.S_IMODE(running.home.stat().st_mode) & 0o066
    answer = httpx.get(
        f"{env['FLOW_NEXUS_URL']}/v1/clusters", headers={"Authorization": f"Bearer {env['FLOW_NEXUS_API_KEY']}"}, timeout=10
    )
    assert (answer.status_code, answer.json()["items"]) == (200, [])
    hosts = httpx.get(f"{env['E2B_API_URL']}/v2/sandboxes", headers={"X-API-Key": env["E2B_API_KEY"]}, timeout=10)
    assert (hosts.status_code, hosts.json()) == (200, [])
    assert httpx.get(f"{env['E2B_API_URL']}/v2/sandboxes", headers={"X-API-Key": "e2b_" + "0" * 40}, timeout=10).is_error
    assert conninfo_answers(operator["FLOW_NEXUS_DATABASE_URL"])


def test_what_operators_are_given_makes_keys(running: Up) -> None:
    made = subprocess.run(
        [sys.executable, "-m", "api.cli.main", "keys", "create", "--project", "other", "--name", "ci"],
        env={**os.environ, **running.file("operator.env")},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    key = json.loads(made.stdout)["api_key"]
    answer = httpx.get(f"http://127.0.0.1:{running.port}/v1/clusters", headers={"Authorization": f"Bearer {key}"}, timeout=10)
    assert answer.status_code == 200


def test_no_secret_in_any_command_line(running: Up) -> None:
    secrets = json.loads((running.home / "secrets").read_text()).values()
    lines = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in descendants(running.process.pid)]
    assert len(lines) >= len(SERVICES)
    assert not [line for line in lines for secret in secrets if secret.encode() in line]


def test_only_the_parts_that_need_them_get_secrets(running: Up) -> None:
    secret_key = running.file("operator.env")["FLOW_NEXUS_SECRET_KEY"].encode()
    holders = {
        b" ".join(Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[2:4])
        for pid in descendants(running.process.pid)
        if secret_key in Path(f"/proc/{pid}/environ").read_bytes()
        # The worker processes of the API, when there are several.
        and b"multiprocessing" not in Path(f"/proc/{pid}/cmdline").read_bytes()
    }
    assert holders == {b"celery -q", b"api.serve --host"}


def test_a_second_stack_on_the_same_folder_is_refused(running: Up) -> None:
    with up(running.home) as second:
        assert second.process.wait(timeout=20) == 2
        assert second.errors() == f"error: a stack already runs on {running.home}\n"


def test_a_busy_port_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with up(tmp_path / "other", port=port) as second:
            assert second.process.wait(timeout=20) == 2
            assert second.errors() == (
                f"error: the API cannot listen on 127.0.0.1 port {port}: Address already in use; choose another with --port\n"
            )
    assert not list((tmp_path / "other" / "logs").iterdir())


def test_killed_outright_it_leaves_nothing_and_starts_again_with_its_data(running: Up) -> None:
    cluster_id = running.walk().create()
    sandbox = Sandbox.create("flow-nexus-python", **running.e2b())
    sandbox.commands.run("setsid sleep 7777", background=True)
    before, ports = running.file("env"), (running.home / "ports.json").read_text()
    family = descendants(running.process.pid)
    assert any(b"7777" in Path(f"/proc/{pid}/cmdline").read_bytes() for pid in family), "the sandbox's command does not run"
    running.process.kill()
    running.process.wait(timeout=10)

    # It starts at once and waits until the orphans have ended.
    with up(running.home, running.port) as again:
        for service in ("postgres", "redis", "sandboxes", "schema", "worker", "beat", "api"):
            assert "ready" in again.next_line(service)
        assert gone(family, within_s=0), "a process outlived its stack, and the next one started beside it"
        again.ready()
        assert (again.file("env"), (running.home / "ports.json").read_text()) == (before, ports)
        assert again.walk().call("GET", f"/v1/clusters/{cluster_id}")["cluster_id"] == cluster_id
        family = descendants(again.process.pid)
        again.process.send_signal(signal.SIGTERM)
        assert again.process.wait(timeout=10) == 0
        assert gone(family, within_s=0)
        assert again.next_line("stopped")


def test_interrupted_while_it_starts(tmp_path: Path) -> None:
    with up(tmp_path / "home") as started:
        started.next_line("redis")
        family = descendants(started.process.pid)
        assert family
        started.process.send_signal(signal.SIGINT)
        assert started.process.wait(timeout=30) == 130
        assert gone(family, within_s=0)


def test_an_external_database_replaces_the_embedded_one(tmp_path: Path, postgres_url: str) -> None:
    with up(tmp_path / "home", FLOW_NEXUS_DATABASE_URL=postgres_url) as started:
        assert started.next_line("postgres") == "postgres   external"
        started.ready()
        cluster_id = started.walk().create()
        assert started.file("operator.env")["FLOW_NEXUS_DATABASE_URL"] == postgres_url
        assert not (tmp_path / "home" / "postgres").exists()
    with psycopg.connect(conninfo(postgres_url)) as connection:
        assert connection.execute("SELECT count(*) FROM clusters WHERE id = %s", [cluster_id]).fetchone() == (1,)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def conninfo(url: str) -> str:
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def conninfo_answers(url: str) -> bool:
    with psycopg.connect(conninfo(url), connect_timeout=5) as connection:
        return connection.execute("SELECT count(*) FROM projects").fetchone() == (1,)


def descendants(pid: int) -> dict[int, str]:
    """Return every descendant with its start time. Process numbers are used again."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := stat_fields(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    family, pending = {}, [pid]
    while pending:
        for child in children.get(pending.pop(), []):
            family[child] = start_time(child)
            pending.append(child)
    return family


def stat_fields(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the state on; empty without such a process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def start_time(pid: int) -> str:
    fields = stat_fields(pid)
    return fields[19] if fields and fields[0] != "Z" else ""


def gone(family: dict[int, str], within_s: float) -> bool:
    end = time.monotonic() + within_s
    while left := [pid for pid, started in family.items() if started and start_time(pid) == started]:
        if time.monotonic() > end:
            print(*(Path(f"/proc/{pid}/cmdline").read_bytes() for pid in left), file=sys.stderr)
            return False
        time.sleep(0.05)
    return True

"""Sandboxes that are forked from a template process: what they have, and what they do not have."""

import json
import os
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from e2b import Sandbox

from api.domain.sandboxes import AGENT_PORT
from tests.workers.agent.acting import Acting, key_of
from workers.agent.protocol.admin import AgentConfig
from workers.agent.protocol.common import Autonomy
from workers.sandboxes.host.config import read_config

from .hosting import API_KEY, Host, descendants, run, stream

CONFIG = "/run/flow-nexus/agent.json"
AGENT, FORK_SERVER, ENVD = "workers.agent", "envd.fork_server", "envd"
TEMPLATE = "workers.sandboxes.host.isolation.template"
WAITING = "-m workers.agent --wait"
MIB = 1 << 20


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A host with a ready template process. Skip where sandboxes are not forked."""
    host = Host(tmp_path_factory.mktemp("warm") / "home", "--memory-mb", "1024", "--disk-mb", "64", warm=True)
    try:
        if not host.is_warm():
            pytest.skip("this machine or this user cannot fork sandboxes: agents are started by command")
        yield host
    finally:
        host.stop()


def create(host: Host, **envs: str) -> str:
    """Create a sandbox and return its id. Its agent waits."""
    sandbox = Sandbox.create("flow-nexus-python", timeout=600, envs=envs, **host.options)
    return str(sandbox.sandbox_id)


def words(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").split("\0")
    except (OSError, UnicodeDecodeError):
        return []


def processes(host: Host, word: str, sandbox: str | None = None) -> list[int]:
    """Return the machine's ids of a host's processes with this word, of one sandbox or of all."""
    outside = [pid for pid in descendants(host.pid) if sandbox and any(sandbox in part for part in words(pid))]
    pids = [pid for parent in outside for pid in descendants(parent)] if sandbox else descendants(host.pid)
    return [pid for pid in pids if word in words(pid)]


def wait_for(reached: object, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not reached():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.05)


def waiting_agent(host: Host, sandbox: str) -> int:
    wait_for(lambda: processes(host, AGENT, sandbox))
    return processes(host, AGENT, sandbox)[0]


def config(level: float = 0.0) -> bytes:
    autonomy = Autonomy(enabled=True, level=level)
    return AgentConfig(node_id="w1", role="worker", key=key_of("w1"), threads=1, autonomy=autonomy).model_dump_json().encode()


def health(host: Host, sandbox: str, seconds: float = 20) -> dict[str, object]:
    endpoint = run(host.client().endpoint(sandbox, AGENT_PORT))
    end = time.monotonic() + seconds
    with httpx.Client(headers=endpoint.headers, auth=Acting(key_of("w1"))) as http:
        while True:
            answer = http.get(f"{endpoint.url}/health")
            if answer.is_success:
                found: dict[str, object] = answer.json()
                return found
            assert time.monotonic() < end, answer.text
            time.sleep(0.05)


def test_a_new_sandbox_has_an_agent_that_waits_and_then_serves(warm: Host) -> None:
    client = warm.client()
    sandbox = create(warm)
    wait_for(lambda: run(client.is_running(sandbox, WAITING)))
    run(client.upload(sandbox, CONFIG, stream(config())))
    assert health(warm, sandbox)["node_id"] == "w1"
    assert run(client.run(sandbox, f"test -e {CONFIG}", timeout_s=10, max_output=100)).exit_code == 1, "the key's file is gone"


def test_a_killed_agent_comes_back_and_takes_a_new_configuration(warm: Host) -> None:
    client = warm.client()
    sandbox = create(warm)
    first = waiting_agent(warm, sandbox)
    run(client.upload(sandbox, CONFIG, stream(config())))
    first_id = health(warm, sandbox)["pid"]
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: first not in processes(warm, AGENT, sandbox) and processes(warm, AGENT, sandbox))
    run(client.upload(sandbox, CONFIG, stream(config())))
    assert health(warm, sandbox)["pid"] != first_id


def test_a_bad_configuration_is_not_shown_and_the_next_agent_waits(warm: Host) -> None:
    client = warm.client()
    sandbox = create(warm)
    first = waiting_agent(warm, sandbox)
    run(client.upload(sandbox, CONFIG, stream(json.dumps({"key": "secret-of-a-node"}).encode())))
    wait_for(lambda: first not in processes(warm, AGENT, sandbox) and processes(warm, AGENT, sandbox))
    wait_for(lambda: any("wrong form" in line.line for line in run(client.logs(sandbox, 50))))
    assert not any("secret-of-a-node" in line.line for line in run(client.logs(sandbox, 50)))


def test_no_process_of_a_sandbox_has_a_right_or_a_descriptor_of_the_machine(warm: Host) -> None:
    sandbox = create(warm)
    agent = waiting_agent(warm, sandbox)
    (server,), (envd,) = processes(warm, FORK_SERVER, sandbox), processes(warm, ENVD, sandbox)
    for pid in (agent, server, envd):
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        assert {status[f"Cap{kind}"] for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}
        assert (status["NoNewPrivs"], status["Groups"].strip()) == ("1", "")
        assert len(set(status["Uid"].split())) == 1
        assert int(status["Uid"].split()[0]) >= 0x70000000
        for kind in ("user", "pid", "mnt", "net", "ipc", "uts", "cgroup"):
            assert Path(f"/proc/{pid}/ns/{kind}").readlink() != Path(f"/proc/self/ns/{kind}").readlink(), kind
        assert Path(f"/proc/{pid}/environ").read_bytes().count(b"\0") <= 8
    assert {int(entry.name) for entry in Path(f"/proc/{agent}/fd").iterdir()} == {0, 1, 2}
    assert len(list(Path(f"/proc/{server}/fd").iterdir())) == 4, "the standard streams and its connection to envd"
    assert int(Path(f"/proc/{agent}/oom_score_adj").read_text()) > int(Path(f"/proc/{envd}/oom_score_adj").read_text())


def test_other_processes_of_the_sandbox_cannot_read_or_trace_the_agent(warm: Host) -> None:
    client = warm.client()
    sandbox = create(warm)
    wait_for(lambda: run(client.is_running(sandbox, WAITING)))
    code = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
tried = 0
for entry in filter(str.isdigit, os.listdir("/proc")):
    words = open(f"/proc/{entry}/cmdline").read()
    if int(entry) != os.getpid() and ("workers.agent" in words or "envd" in words):
        tried += 1
        assert libc.ptrace(16, int(entry), 0, 0) == -1, words
        for name in ("mem", "maps", "environ", "fd", "cwd", "root", "exe"):
            try:
                path = f"/proc/{entry}/{name}"
                {"fd": os.listdir, "cwd": os.readlink, "root": os.readlink, "exe": os.readlink}.get(name, open)(path)
            except PermissionError:
                continue
            raise AssertionError(f"{words} shows its {name}")
print(tried)
"""
    result = run(client.execute(sandbox, code, language="python", timeout_s=30, max_output=10_000))
    assert (result.stdout, result.stderr) == ("3\n", "")


def test_the_template_process_has_one_thread_no_network_and_no_environment_of_the_host(warm: Host) -> None:
    (template,) = processes(warm, TEMPLATE)
    assert len(list(Path(f"/proc/{template}/task").iterdir())) == 1
    assert Path(f"/proc/{template}/ns/net").readlink() != Path(f"/proc/{warm.pid}/ns/net").readlink()
    names = {entry.partition(b"=")[0] for entry in Path(f"/proc/{template}/environ").read_bytes().split(b"\0") if entry}
    assert names == {b"PATH", b"HOME", b"USER", b"LOGNAME", b"LANG", b"TMPDIR", b"PYTHONPATH", b"PYTHONDONTWRITEBYTECODE"}


def memory_of(pid: int) -> Iterator[bytes]:
    """Yield each readable and writable region of a process's memory."""
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            place, access = line.split()[:2]
            if access.startswith("rw"):
                start, end = (int(number, 16) for number in place.split("-"))
                memory.seek(start)
                yield memory.read(end - start)


def test_no_forked_process_has_a_secret_of_the_host_or_of_another_sandbox(warm: Host) -> None:
    """Search the whole memory of each process. The first sandbox's own agent proves the search."""
    client = warm.client()
    mark = uuid.uuid4().hex
    first = create(warm, CANARY=f"environment-{mark}")
    first_agent = waiting_agent(warm, first)
    run(client.upload(first, CONFIG, stream(config())))
    health(warm, first)
    run(client.upload(first, "/data/train.json", stream(f"data-{mark}".encode())))
    run(client.run(first, f"echo code-{mark}", timeout_s=10, max_output=1000))

    second = create(warm)
    waiting_agent(warm, second)
    folder = warm.home / "sandboxes" / first
    tokens = json.loads((folder / "state.json").read_text())
    secrets = {
        "the host's key": API_KEY,
        "the host's environment": "HOST_SECRET=",
        "another node's key": key_of("w1"),
        "another sandbox's environment": f"environment-{mark}",
        "another sandbox's data": f"data-{mark}",
        "another sandbox's code": f"code-{mark}",
        "another sandbox's id": first,
        "another sandbox's token": tokens["access_token"],
    }

    def found_in(pid: int) -> set[str]:
        return {name for region in memory_of(pid) for name, secret in secrets.items() if secret.encode() in region}

    assert found_in(first_agent) >= {"another node's key", "another sandbox's environment"}
    for word in (AGENT, FORK_SERVER, ENVD):
        for pid in processes(warm, word, second):
            assert found_in(pid) == set(), word
    (template,) = processes(warm, TEMPLATE)
    assert found_in(template) == set()


def test_full_disk_ends_commands_but_agents_still_come_back(warm: Host) -> None:
    client = warm.client()
    sandbox = create(warm)
    first = waiting_agent(warm, sandbox)
    result = run(
        client.execute(sandbox, "head -c 200M /dev/zero >/data/full; sleep 20", language="bash", timeout_s=30, max_output=100)
    )
    assert result.exit_code != 0
    wait_for(lambda: first not in processes(warm, AGENT, sandbox) and processes(warm, AGENT, sandbox))
    assert processes(warm, FORK_SERVER, sandbox)


def test_without_the_fork_server_an_agent_is_started_by_command(warm: Host) -> None:
    client = warm.client()
    sandbox = create(warm)
    agent = waiting_agent(warm, sandbox)
    os.kill(processes(warm, FORK_SERVER, sandbox)[0], signal.SIGKILL)
    os.kill(agent, signal.SIGKILL)
    wait_for(lambda: not run(client.is_running(sandbox, WAITING)))
    run(client.upload(sandbox, CONFIG, stream(config())))
    run(client.start(sandbox, f"exec python -m workers.agent --config {CONFIG}"))
    assert health(warm, sandbox, 90)["node_id"] == "w1"


def test_the_template_process_may_die_or_hang_and_no_sandbox_suffers(warm: Host) -> None:
    client = warm.client()
    before = create(warm)
    agent = waiting_agent(warm, before)
    (template,) = processes(warm, TEMPLATE)
    os.kill(template, signal.SIGKILL)
    meanwhile = create(warm)
    assert run(client.run(meanwhile, "echo alive", timeout_s=20, max_output=100)).stdout == "alive\n"
    assert run(client.run(before, "echo alive", timeout_s=20, max_output=100)).stdout == "alive\n"
    assert words(agent), "the agent still waits"
    assert warm.is_warm(starts=2)
    (hanging,) = processes(warm, TEMPLATE)
    assert waiting_agent(warm, create(warm)), "sandboxes are forked again"
    os.kill(hanging, signal.SIGSTOP)
    started = time.monotonic()
    create(warm)
    assert time.monotonic() - started < 90
    wait_for(lambda: hanging not in processes(warm, TEMPLATE))
    run(client.kill(before))
    wait_for(lambda: not words(agent))
    assert warm.is_warm(starts=3), "the next tests need forked sandboxes"


def test_a_setting_turns_warm_agents_off(tmp_path: Path) -> None:
    host = Host(tmp_path / "home")
    try:
        sandbox = create(host)
        assert processes(host, TEMPLATE) == processes(host, FORK_SERVER) == []
        assert not run(host.client().is_running(sandbox, WAITING))
    finally:
        host.stop()


def test_a_setting_that_is_neither_on_nor_off_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as error:
        patch.setenv("E2B_API_KEY", API_KEY)
        patch.setenv("FLOW_NEXUS_WARM_AGENTS", "perhaps")
        read_config(["--home", str(tmp_path)])
    assert error.value.code == 2
    assert "FLOW_NEXUS_WARM_AGENTS must be 'on' or 'off'" in capsys.readouterr().err


def test_memory_of_the_template_does_not_count_as_memory_of_a_sandbox(warm: Host) -> None:
    client = warm.client()
    sandbox = create(warm)
    agent = waiting_agent(warm, sandbox)
    measured = run(client.metrics(sandbox))
    assert measured is not None
    assert measured.memory_used_bytes is not None
    resident = int(Path(f"/proc/{agent}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    assert resident > 150 * MIB, "it has torch in memory"
    assert measured.memory_used_bytes < 100 * MIB, "of four processes"

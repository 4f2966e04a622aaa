"""Hostile code takes all that it can get: its own limits stop it, the status names them, its neighbour goes on meanwhile."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from api.domain.sandboxes import SandboxFullError
from tests.workers.sandboxes.hosting import descendants, processes_marked, resident_bytes, run, stream

from .attacks import Ground


@contextmanager
def watched_neighbour(field: Ground) -> Iterator[list[float]]:
    """Asks the neighbour over and over while the attack goes on; gives the seconds that each answer took."""
    over = threading.Event()
    took: list[float] = []
    failures: list[Exception] = []

    def ask() -> None:
        while not over.is_set():
            started = time.monotonic()
            try:
                assert field.answers(field.neighbour)
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


def test_a_fork_bomb(field: Ground) -> None:
    code = "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass"
    with watched_neighbour(field):
        assert field.code(code, timeout_s=3).limit == "timeout"
    assert field.wait_for_hit("processes").count >= 1
    left = field.attack("import os\nprint(len([p for p in os.listdir('/proc') if p.isdigit()]))")
    assert int(left) < 15, "the timeout took the whole bomb"
    assert field.everyone_answers()
    assert field.hits(field.neighbour) == {}


def test_a_fork_bomb_whose_first_process_is_gone(field: Ground) -> None:
    """What no running command stands for makes way for the next command."""
    with watched_neighbour(field):
        result = field.code("bomb() { bomb | bomb & }; bomb; bomb; sleep 1", "bash", timeout_s=10)
        assert result.limit in (None, "timeout")
        assert field.answers(field.attacker)
    assert field.wait_for_hit("processes").count >= 1
    assert field.everyone_answers()


def test_a_memory_bomb(field: Ground) -> None:
    code = "blocks = []\nwhile True: blocks.append(bytearray(b'x' * (16 << 20)))"
    with watched_neighbour(field):
        result = field.code(code)
    assert result.limit is None
    assert result.exit_code == 137 or "MemoryError" in result.stderr
    assert field.everyone_answers()


def test_memory_of_many_processes_counts_together(field: Ground) -> None:
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
    with watched_neighbour(field):
        result = field.code(code)
    assert result.exit_code == 137 or int(result.stdout) >= 4
    assert field.wait_for_hit("memory").count >= 1
    assert field.everyone_answers()


def test_killing_everything_leaves_the_sandbox_usable(field: Ground) -> None:
    with watched_neighbour(field):
        run(field.client.run(field.attacker, "kill -9 -1; kill -9 1; kill -STOP 1", timeout_s=10, max_output=100))
        field.code("import os\nos.kill(-1, 9)")
    assert field.everyone_answers()


def test_filling_the_disk(field: Ground) -> None:
    code = "n = 0\nwhile True:\n    n += 1\n    open(f'/data/fill{n}', 'wb').write(bytes(16 << 20))"
    with watched_neighbour(field):
        assert field.code(code).exit_code == 137
    assert field.wait_for_hit("disk").count >= 1
    with pytest.raises(SandboxFullError):
        run(field.client.upload(field.attacker, "/data/more", stream(b"x")))
    measured = run(field.client.metrics(field.attacker))
    assert measured is not None
    assert measured.disk_used_bytes is not None
    assert measured.disk_used_bytes < 3 << 30, "stopped while it was at it"
    wait_until_removed(field, "rm -rf /data/fill*")
    run(field.client.upload(field.attacker, "/data/more", stream(b"x")))
    assert field.everyone_answers()


def wait_until_removed(field: Ground, command: str) -> None:
    """A sandbox above its limits can still remove what is too much, and is usable again."""
    deadline = time.monotonic() + 60
    while True:
        run(field.client.run(field.attacker, command, timeout_s=30, max_output=1000))
        try:
            run(field.client.upload(field.attacker, "/data/usable", stream(b"x")))
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
def test_nothing_is_hidden_from_the_disk_limit(field: Ground, where: str) -> None:
    result = field.code(HIDDEN[where] + "\nimport time\ntime.sleep(60)", timeout_s=45)
    assert result.exit_code == 137, result
    if "hides" not in where:
        field.wait_for_hit("disk")
    wait_until_removed(field, "chmod -R u+rwx /data 2>/dev/null; rm -rf /data/closed /data/deep /data/held")
    assert field.everyone_answers()


def test_a_service_may_hide_as_the_agent_does(field: Ground) -> None:
    """It closes itself to other processes of its user, so that none reads its key out of it."""
    hide = "import ctypes, time; ctypes.CDLL(None).prctl(4, 0, 0, 0, 0); time.sleep(60)"
    pid = run(field.client.start(field.attacker, f"exec python -c '{hide}'"))
    # Written for the watch to look more than once.
    field.attack("import time\nfor n in range(3):\n    open('/data/big', 'wb').write(bytes(70 << 20))\n    time.sleep(1)")
    assert field.attack(f"rm /data/big; kill -0 {pid} && echo alive", "bash") == "alive\n"
    run(field.client.run(field.attacker, f"kill -9 {pid}", timeout_s=10, max_output=100))


def test_more_files_than_allowed(field: Ground) -> None:
    code = "n = 0\nwhile True:\n    n += 1\n    open(f'/data/{n}.tiny', 'w').close()"
    with watched_neighbour(field):
        assert field.code(code, timeout_s=60).exit_code == 137
    assert field.wait_for_hit("files").count >= 1
    with pytest.raises(SandboxFullError):
        run(field.client.upload(field.attacker, "/data/more", stream(b"x")))
    wait_until_removed(field, "find /data -name '*.tiny' -delete")
    assert field.everyone_answers()


@pytest.mark.parametrize("target", ["stdout", "stderr"])
def test_a_gigabyte_of_output(field: Ground, target: str) -> None:
    before = resident_bytes(field.host.pid)
    code = f"import sys\nfor _ in range(1024): sys.{target}.write('x' * (1 << 20))"
    with watched_neighbour(field):
        result = field.code(code, max_output=50_000)
    assert (result.limit, result.exit_code, len(getattr(result, target))) == ("output", None, 50_000)
    assert field.wait_for_hit("output").count >= 1
    assert resident_bytes(field.host.pid) - before < 64 << 20
    assert field.everyone_answers()


def test_a_service_that_prints_without_end(field: Ground) -> None:
    """What a service prints goes to a log that stays small."""
    run(field.client.start(field.attacker, "exec timeout 3 yes $(printf %2000s | tr ' ' y)"))
    with watched_neighbour(field):
        time.sleep(2)
    assert (field.host.home / "sandboxes" / field.attacker / "log.jsonl").stat().st_size < 8 << 20
    assert field.everyone_answers()


def test_processes_that_ignore_signals_and_leave_the_group(field: Ground) -> None:
    """Neither a closed ear nor a session of its own saves a process from the timeout."""
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
    result = field.code(code, timeout_s=2)
    assert (result.stdout, result.exit_code, result.limit) == ("begun\n", None, "timeout")
    assert result.duration_ms < 10_000
    assert field.wait_for_hit("timeout").count >= 1
    deadline = time.monotonic() + 20
    while processes_marked("4711471"):
        assert time.monotonic() < deadline, "something outlived the timeout"
        time.sleep(0.1)


def test_a_background_process_that_holds_the_output_open_does_not_hold_the_result(field: Ground) -> None:
    result = field.code("sleep 4711472 & echo done", "bash", timeout_s=20)
    assert (result.stdout, result.exit_code, result.limit) == ("done\n", 0, None)
    assert result.duration_ms < 10_000
    field.code("pkill -f 4711472", "bash")


def test_output_that_is_no_text(field: Ground) -> None:
    result = field.code(
        "import sys\nsys.stdout.buffer.write(b'a\\xff\\xfe\\x00b' + 'é'.encode() * 50_000)", max_output=1_000_000
    )
    assert (result.exit_code, result.limit) == (0, None)
    assert result.stdout.startswith("a")
    assert result.stdout.endswith("bé" + "é" * 49_999)


def test_busy_processes_leave_the_neighbour_its_share(field: Ground) -> None:
    code = "import os\nfor _ in range(60):\n    if not os.fork():\n        while True: pass\nwhile True: pass"
    if field.host.health["limits"] != "cgroups":
        pytest.skip("without cgroups the kernel's scheduler alone shares the CPU")
    with watched_neighbour(field) as took:
        assert field.code(code, timeout_s=5).limit == "timeout"
    assert max(took) < 10


def test_the_host_is_no_larger_for_it(field: Ground) -> None:
    """After all of the above: nothing is left behind on the machine."""
    assert resident_bytes(field.host.pid) < 300 << 20
    assert len(descendants(field.host.pid)) < 20
